"""Takes as long to import as a library on a disk that does not answer."""

import time

time.sleep(3600)
