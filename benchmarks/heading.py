"""The heading of every benchmark's table."""

import platform
from importlib import metadata


def heading(title: str, *packages: str, where: str = platform.machine()) -> None:
    """Print what was measured, and the versions and the machine that it was measured with."""
    versions = [f"{name} {metadata.version(name)}" for name in packages]
    versions += [f"Python {platform.python_version()}", where]
    print(f"{title}\n{', '.join(versions)}\n")
