"""TensorBoard with the Novelty tab of this checkout: `serve.py LOGDIR` prints its address."""

import sys
import time

from tensorboard import default, program

from novum.tensorboard.plugin import NoveltyPlugin

if __name__ == "__main__":
    others = [p for p in default.get_plugins() if p is not NoveltyPlugin]
    server = program.TensorBoard(plugins=[*others, NoveltyPlugin])
    server.configure(argv=[None, "--logdir", sys.argv[1], "--port", "0", "--host", "localhost"])
    print(server.launch(), flush=True)
    while True:
        time.sleep(3600)
