"""What pyproject.toml cannot say: the wheel carries the scripts and their files, as they lie in a checkout.

`vsrprune/checkout` in an installed package holds src/*.py, sweeps/, conf/ and analysis/; `vsrprune.commands` finds
them there. An editable installation uses those of the checkout itself.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ("src/*.py", "sweeps/*.py", "sweeps/*.yaml", "conf/**/*.yaml", "analysis/*.py", "analysis/report/*")


class WithScripts(build_py):
    """setuptools' step that lays the package out, and after it the carried files."""

    def run(self) -> None:
        """Lay out, then copy."""
        super().run()
        if self.editable_mode:
            return
        for source, target in self._carried().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target, preserve_mode=False)

    def get_source_files(self) -> list[str]:
        """The files of a source distribution."""
        return [*super().get_source_files(), *self._carried()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """The files that are laid out."""
        carried = [] if self.editable_mode else list(self._carried().values())
        return [*super().get_outputs(include_bytecode), *carried]

    def _carried(self) -> dict[str, str]:
        """Path in the checkout -> path in the laid-out package."""
        found = (path for pattern in CARRIED for path in sorted(Path().glob(pattern)))
        return {str(path): str(Path(self.build_lib, "vsrprune", "checkout", path)) for path in found if path.is_file()}


setup(cmdclass={"build_py": WithScripts})
