"""Exports the towers for programs without ecliptic: ONNX or `torch.export`, and JSON beside them.

Names are lazy, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.export.agreement import Agreement as Agreement
    from ecliptic.export.programs import OPSET as OPSET, ExportTarget as ExportTarget
    from ecliptic.export.writing import (
        Export as Export,
        ExportedFile as ExportedFile,
        ExportPrecision as ExportPrecision,
        check_export as check_export,
        write_export as write_export,
    )

__getattr__, __dir__ = lazy_names(__name__)
