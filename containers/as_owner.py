#!/usr/bin/env python3
"""Become a command that writes files as the host's user: `as-owner FOLDER COMMAND...`.

Compose cannot know who the host's user is, but the folder that is mounted tells. Started as root with no more
capabilities than to change the user, this becomes the folder's owner for good, and then the command. A folder that
belongs to root stays root's: then root is the host's user, or stands for it (rootless Docker, Docker Desktop).
"""

import os
import sys


def main(folder: str, *command: str) -> None:
    """Take the identity of `folder`'s owner and become `command`."""
    owner = os.stat(folder)  # noqa: PTH116
    if os.getuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    os.execvp(command[0], command)  # noqa: S606 - what Compose was told to run


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: as-owner FOLDER COMMAND...")
    main(*sys.argv[1:])
