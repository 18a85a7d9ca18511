"""What a failed build's log says: the first error, and what to do about the kinds that users meet."""

import re

ERROR = re.compile(r"\b(error|fatal|Killed)\b|undefined reference|cannot find -l|No space left", re.IGNORECASE)
NOISE = re.compile(r"^ninja: build stopped|^FAILED: |^\[\d+/\d+\]")
MENDS = {
    r"unsupported GNU version|unsupported clang version": "this nvcc needs an older compiler: set CXX=g++-12, say",
    r"Unsupported gpu architecture": "nvcc and the GPU do not fit: install a torch and nvcc that know this GPU",
    r"Unsupported \.version": "nvcc's parts differ in version: pip install --force-reinstall 'rtil[cuda-build]'",
    r"unrecognized .*std=c\+\+20|requires C\+\+20": "the compiler is too old: install g++ 11 or newer, or set CXX",
    r"No space left": "free disk space, or set RTIL_CACHE to a folder with more",
    r"\bKilled\b": "memory ran out: set MAX_JOBS=1",
    r"invalid -j parameter": "set MAX_JOBS to a number",
    r"-lgomp|libgomp|-fopenmp|omp\.h": "the compiler has no OpenMP: install g++, or set CXX to one that has it",
}
OTHERWISE = "look there, or set CXX to another compiler"
LONGEST = 300  # characters


def explain(log: str) -> tuple[str, str]:
    """Return the first error of a build log in one line, and what to do.

    Args:
        log: What ninja and the compilers printed.

    Example:
        >>> explain("a.cpp: In function f: a.cpp:3:1: error: x was not declared in this scope")[1]
        'look there, or set CXX to another compiler'
    """
    lines = [line.strip() for line in log.splitlines() if line.strip() and not NOISE.match(line)]
    output = [line for line in lines if " -o " not in line]  # not the commands, which name files and flags
    errors = [line for line in output if ERROR.search(line)]
    cause = (errors or output or lines or ["no output"])[0][:LONGEST]
    for pattern, mend in MENDS.items():
        if re.search(pattern, "\n".join(output), re.IGNORECASE):
            return cause, mend
    return cause, OTHERWISE
