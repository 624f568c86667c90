"""libvips as this package wants it, set once per process."""

from functools import cache

import pyvips


@cache
def set_up_vips() -> None:
    """
    One thread (throughput comes from processes), no operation cache, no loader unfit for strangers.

    Of those, SVG from memory alone is allowed again: svg.py reads every document before librsvg does.
    """
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoadSvgBuffer", False)


def forget_errors() -> None:
    """Empty libvips' error buffer: it also keeps complaints of operations that went well in the end."""
    pyvips.vips_lib.vips_error_clear()
