"""The tutorials in colab/: they run from top to bottom on synthetic speech, show pictures, and define nothing."""

from __future__ import annotations

import ast
import os
import pathlib
import re

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "colab").glob("*.ipynb"))}
TOOLS = ("arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm", "make")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@pytest.fixture(params=NOTEBOOKS)
def notebook(request) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS[request.param], as_version=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where notebooks run that speak the same clips: only the first of them has to."""
    return tmp_path_factory.mktemp("colab")


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def as_python(source: str) -> str:
    """The same without lines for the shell."""
    return re.sub(r"^(\s*)(?:\w+ = )?[!%].*$", r"\1pass", source, flags=re.MULTILINE)


def execute(name: str, folder: pathlib.Path, **environment: str) -> nbformat.NotebookNode:
    """Runs a notebook in a folder of its own; raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    # conftest.py chooses a backend of matplotlib that shows nothing; a notebook has its own.
    kept = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "TF_USE_LEGACY_KERAS")}
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    settings = {"PYTHONPATH": python_path, "IPYTHONDIR": str(folder / ".ipython")}
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env={**kept, **settings, **environment})
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in:\n{text}"
    return float(found[1])


def test_there_are_five() -> None:
    assert list(NOTEBOOKS) == ["1_quantize", "2_stream", "3_board", "4_low_rank", "5_search"]


def test_nothing_of_a_run_is_kept(notebook) -> None:
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert not cell.metadata and cell.source.strip()
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None


def test_nothing_is_defined(notebook) -> None:
    """What a tutorial needs belongs into the packages, where it is tested."""
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(as_python(cell.source))):
            assert not isinstance(node, DEFINITIONS), cell.source
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if ".commands" in name or name.split(".")[-1].startswith("_")], names


def test_first_cell_installs_on_colab_only(notebook) -> None:
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    first, *others = code_cells(notebook)
    assert 'if "google.colab" in sys.modules' in first.source and re.search(r"^    %pip install", first.source, re.M)
    assert not re.search(r"^[!%]", first.source, re.M), "elsewhere it must install nothing"
    assert '"tensorflow=={tensorflow}"' in first.source, "Colab's TensorFlow stays as it is"
    assert first.source.index("TF_USE_LEGACY_KERAS") < first.source.index("google.colab")
    assert "://" not in first.source, "no address of a repository that may not be there"
    assert not any(re.search(r"pip install|apt-get (?!install gcc)", cell.source) for cell in others)


def test_links_lead_somewhere(notebook) -> None:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and not [link for link in links if not (ROOT / "colab" / link).is_file()]


def test_quantize(folder, require_speech) -> None:
    done = execute("1_quantize", folder)
    text = printed(done)
    assert number(r"differ by at most ([\d.]+) steps", text) <= 1.0
    assert number(r"4 bits ([\d.]+)%", text) > 80.0
    assert pictures(done) == 5
    size = (folder / "spotter.tflite").stat().st_size
    assert 10_000 < size < 20_000


def test_stream(folder, require_speech) -> None:
    done = execute("2_stream", folder)
    text = printed(done)
    assert "all integers equal the clip model's: True" in text
    assert number(r"(\d+) steps of 80 ms", text) > 1000
    assert number(r"dev: .* (\d+) false accepts an hour", text) <= 20
    assert number(r"test: .* (\d+)% missed", text) < 60
    assert pictures(done) == 3


def test_board(folder, require_speech, require_tool) -> None:
    for tool in TOOLS:
        require_tool(tool)
    done = execute("3_board", folder)
    text = printed(done)
    assert "40 clips on the Cortex-M4; all bytes equal the reference's: True" in text
    assert 3000 < number(r"(\d+) bytes of arena", text) < 4000
    assert 12_000 < number(r"4 bits: (\d+) bytes of model", text) < 15_000
    assert number(r"bytes of model and (\d+) of kernels", text) > 10_000
    assert 'resolver.AddCustom("TfmotKwsPackedDense", tfmot_kws::Register_TfmotKwsPackedDense());' in text
    assert pictures(done) == 2


def test_low_rank(tmp_path, require_speech) -> None:
    done = execute("4_low_rank", tmp_path)
    text = printed(done)
    assert "same bits: True" in text
    assert number(r"float +DET area +([\d.]+)", text) < 60  # of 1000; by chance it is 500
    assert number(r"16 bits +DET area +([\d.]+)", text) < 1.1 * number(r"float +DET area +([\d.]+)", text)
    assert number(r"4 bits, joined, trained +DET area +([\d.]+)", text) < 80
    found = re.findall(r"^([\d-]+) bits +DET.* ([\d,]+) bytes", text, re.MULTILINE)
    assert [width for width, _ in found] == ["16", "8", "4-8", "4"]
    sizes = [int(size.replace(",", "")) for _, size in found]
    assert sizes == sorted(sizes, reverse=True)
    assert pictures(done) == 4


@pytest.mark.slow
def test_board_without_a_compiler_says_what_to_install(tmp_path) -> None:
    with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
        execute("3_board", tmp_path, PATH=str(tmp_path))
    assert "arm-none-eabi-gcc, qemu-system-arm, make not found" in caught.value.evalue
    assert "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm make" in caught.value.evalue


def test_search(folder, require_speech) -> None:
    done = execute("5_search", folder)
    text = printed(done)
    assert "the stream ends where the clip does: True" in text
    assert number(r"accuracy ([\d.]+)%", text) > 70.0
    costs = re.findall(r"\((\d+)%\)", text)
    assert len(costs) == 2 and all(int(share) <= 100 for share in costs)
    assert pictures(done) == 4
