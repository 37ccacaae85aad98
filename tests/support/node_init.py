"""PID 1 of a test machine: mounts what the machine has of its own, says so, then reaps."""

import ctypes
import os
import pathlib
import signal
import socket
import sys

MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV, MS_NOEXEC = 4096, 16384, 1 << 18, 2, 4, 8
libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind=None, flags=0, data=None):
    def text(value):
        return None if value is None else str(value).encode()

    if libc.mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(data)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mount {source} on {target}: {os.strerror(error)}")


def main():
    name, root, ready = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    from machine import PRIVATE_FOLDERS

    socket.sethostname(name)
    # Seen from outside, for the pid file: /proc here is still the host's.
    host_pid = os.readlink("/proc/self")
    started = pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]
    (root / "init.pid").write_text(f"{host_pid} {started}")
    for inside, _ in PRIVATE_FOLDERS:
        if not inside.startswith("/run/"):
            os.makedirs(inside, exist_ok=True)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    for inside, folder in PRIVATE_FOLDERS:
        os.makedirs(inside, exist_ok=True)
        mount(root / folder, inside, None, MS_BIND)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    os.write(ready, b"ready")
    os.close(ready)
    while True:
        signal.sigwait([signal.SIGCHLD])
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main()
