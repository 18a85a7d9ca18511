"""How much memory a device has for this process, and when there is none left."""

import torch

from rtil.budget import SHARE, available_bytes

WORDS_OF_ALLOCATORS = ("DefaultCPUAllocator", "std::bad_alloc", "MPS backend out of memory")


def free_on(device: torch.device) -> int | None:
    """Return the bytes to plan with on a device, or None where the system does not say.

    On an NVIDIA GPU those that are free, else :data:`rtil.budget.SHARE` of what the machine and the limits around this
    process leave.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = available_bytes()
    return None if available is None else int(SHARE * available)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that there is no memory left: a GPU's, torch's on a CPU, or Python's.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS_OF_ALLOCATORS)
