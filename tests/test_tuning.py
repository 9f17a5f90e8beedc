"""The interpreter's switches of a process that serves, in a process of its own: they change the whole of one."""

import subprocess
import sys


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_garbage_is_collected_again_once_it_serves() -> None:
    """`mcproxy server` starts without a collector."""
    enabled, frozen, interval = run(
        "import gc, sys; from mcproxy import app, tuning; gc.disable(); tuning.tune(); "
        "print(gc.isenabled(), gc.get_freeze_count(), sys.getswitchinterval())"
    )
    assert enabled == "True"
    assert int(frozen) > 50_000, "what the start made is left alone"
    assert float(interval) < 0.001


def test_a_python_without_libffi_serves_as_well() -> None:
    program = "import sys; sys.modules['ctypes'] = None; from mcproxy import tuning; tuning.keep_memory(); "
    assert run(program + "tuning.give_memory_back(); print('served')") == ["served"]


def test_all_descriptors_are_taken_that_the_system_grants() -> None:
    soft, hard = run(
        "import resource; r = resource.RLIMIT_NOFILE; resource.setrlimit(r, (128, resource.getrlimit(r)[1])); "
        "from mcproxy.tuning import raise_descriptor_limit; raise_descriptor_limit(); print(*resource.getrlimit(r))"
    )
    assert soft == hard
