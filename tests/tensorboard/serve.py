"""TensorBoard with the Novelty tab of this checkout: `serve.py LOGDIR [FLAG ...]` says where."""

import sys
import time

from tensorboard import default, program

from novum.tensorboard.plugin import NoveltyPlugin

if __name__ == "__main__":
    others = [p for p in default.get_plugins() if p is not NoveltyPlugin]
    server = program.TensorBoard(plugins=[*others, NoveltyPlugin])
    where = ["--logdir", sys.argv[1], "--port", "0", "--host", "localhost", *sys.argv[2:]]
    server.configure(argv=[None, *where])
    print(server.launch(), flush=True)
    while True:
        time.sleep(3600)
