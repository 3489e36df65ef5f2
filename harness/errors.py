"""Failures that are no mistakes of the program: of a user, and of a machine without memory."""

import re


class UserError(Exception):
    """Something the user asked for cannot be done; the message says what was expected and found.

    The command line prints it as one line without a traceback.
    """


# What allocators and libraries say when memory runs out. MKL, without memory for a transform, says
# that the transform's settings are inconsistent; the dynamic linker, that it cannot map a library.
OUT_OF_MEMORY = (
    "[Cc]an(no|')t allocate memory|Unable to allocate|CUDA out of memory|ALLOC_FAILED"
    "|std::bad_alloc|DFTI ERROR|failed to map segment"
)


def lacks_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out."""
    return isinstance(error, MemoryError) or bool(re.search(OUT_OF_MEMORY, str(error)))
