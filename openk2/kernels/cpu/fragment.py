"""How numba compiles functions that only become parts of other compiled functions.

In: numba's own pipeline. Out: the same code, optimised once, inside the function that it ends in.
By default numba optimises every function together with all that it calls, and again in each of its
callers, and makes machine code of it each time. For a deep tree of calls that is half of the work.
Must not know: what is compiled.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager


class Fragment(CompilerBase):
    """The `pipeline_class` of such a function: numba's passes, and a library of our own."""

    def define_pipelines(self) -> list[PassManager]:
        """Return numba's own passes."""
        state = self.state
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        return [DefaultPassBuilder.define_nopython_pipeline(state)]


class _Library(JITCodeLibrary):
    """LLVM's code of one function and of what it calls, which is linked into others."""

    @property
    def codegen(self) -> Any:
        return _NoEnvironment if self._finalized else self._codegen

    def get_pointer_to_function(self, name: str) -> int:
        """Say that there is no machine code."""
        self._ensure_finalized()
        return 0

    def _optimize_final_module(self) -> None:
        # Variables become registers, which leaves the callers less to do.
        manager, builder = self._codegen._module_pass_manager(
            cost="cheap", opt=0, loop_vectorize=False, slp_vectorize=False
        )
        manager.run(self._final_module, builder)

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _NoEnvironment:
    """Stands where numba writes the address of a function's globals into its machine code."""

    @staticmethod
    def set_env(name: str, environment: object) -> None:
        """Do nothing: there is no machine code."""
