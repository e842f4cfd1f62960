"""For all tests: most of their time goes to compiling small programs once, so XLA is told not to try hard.

What one process compiled, the others of the same session read: pytest's workers, and the programs that tests start.
"""

import importlib.metadata
import os
import tempfile

FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA ends the process on a flag that it does not know
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
LONGEST = ("test_loop.py", "test_devices.py")

if FLAGS not in os.environ.get("XLA_FLAGS", ""):  # workers have them from the process that started them
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="vdw_jax-compiled-")  # gone when this process ends
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def pytest_collection_modifyitems(items):
    """The longest files first, so that no worker waits for them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
