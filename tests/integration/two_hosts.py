"""Two hosts, network namespaces with a wire between them: `python two_hosts.py CMD...`.

To be run under `unshare --net`, which is host A; CMD is what torchrun starts on each. All of it
ends, with its interfaces, when this process does.
"""

import os
import subprocess
import sys

A, B = "10.77.0.1", "10.77.0.2"


def ip(*arguments: str, inside: list[str] = ()) -> None:
    subprocess.run([*inside, "ip", *arguments], check=True, capture_output=True, text=True)


def torchrun(address: str, node: int, command: list[str], inside: list[str]) -> subprocess.Popen:
    launch = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
              "--node-rank", str(node), "--local-addr", address, "--rdzv-backend", "c10d",
              "--rdzv-endpoint", f"{A}:29400", "--rdzv-conf", f"is_host={1 - node}",
              "--rdzv-id", "two"]  # fmt: skip
    # of the hosts, not of one that a name leads to
    names = {"GLOO_SOCKET_IFNAME": "veth", "TP_SOCKET_IFNAME": "veth", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*inside, sys.executable, *launch, *command], env=os.environ | names)


def main(command: list[str]) -> int:
    other = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        on_b = ["nsenter", "--target", str(other.pid), "--net"]
        while os.readlink(f"/proc/{other.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass  # until it has left this one
        ip("link", "add", "veth", "type", "veth", "peer", "name", "veth", "netns", str(other.pid))
        for address, inside in ((A, []), (B, on_b)):
            ip("address", "add", f"{address}/24", "dev", "veth", inside=inside)
            ip("link", "set", "veth", "up", inside=inside)
            ip("link", "set", "lo", "up", inside=inside)
        hosts = [torchrun(A, 0, command, []), torchrun(B, 1, command, on_b)]
        codes = [host.wait(timeout=240) for host in hosts]
        sent = subprocess.run(["ip", "-s", "-j", "link", "show", "veth"], capture_output=True)
        print("veth:", sent.stdout.decode())
        return max(codes)
    finally:
        other.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
