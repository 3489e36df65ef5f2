"""Mistakes of a user, which the command line prints as one line without a traceback."""


class UserError(Exception):
    """Something the user asked for cannot be done; the message says what was expected and found."""


# What allocators and libraries say when memory runs out. MKL, without memory for a transform, says
# that the transform's settings are inconsistent; the dynamic linker, that it cannot map a library.
OUT_OF_MEMORY = (
    "[Cc]an(no|')t allocate memory|Unable to allocate|CUDA out of memory|ALLOC_FAILED"
    "|std::bad_alloc|DFTI ERROR|failed to map segment"
)
