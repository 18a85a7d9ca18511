"""mkdocs' hook: in the site, files have the names that they have in the repository, so that one link serves in both.

Beside the pages of this folder the site has README.md as its first page, the cards of ``datasets/``, notebooks with
their outputs, and, of every other file that a page links to, a page that shows it. So a link that works in a clone
works in the site, and ``mkdocs build --strict`` finds those that lead nowhere.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel

FIRST_PAGE = "README.md"
OTHER_FOLDERS = ("datasets",)
LINK = re.compile(r"\]\(([^)#\s]+)")


class WrittenPage(File):
    """A page whose Markdown was made from a file of another kind."""

    def is_documentation_page(self) -> bool:
        """Return True, whatever the file's name ends in."""
        return True


@event_priority(100)  # other plugins see the files as they are then
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Name the files of this folder as in the repository, and add those of other folders."""
    root = Path(config.config_file_path).parent
    folder = Path(config.docs_dir).relative_to(root).as_posix()
    named = Files([])
    for file in files:
        if file.src_dir != config.docs_dir:  # the theme's
            named.append(file)
        elif file.src_uri.endswith(".ipynb"):
            for page in notebook(root, f"{folder}/{file.src_uri}", file.src_uri.removesuffix(".ipynb"), config):
                named.append(page)
        else:
            named.append(repository_file(root, f"{folder}/{file.src_uri}", file.dest_uri, config, file.inclusion))
    others = [path for other in OTHER_FOLDERS for path in sorted((root / other).glob("*.md"))]
    for path in [root / FIRST_PAGE, *others]:
        named.append(repository_file(root, path.relative_to(root).as_posix(), None, config))
    for name in sorted(set(linked(named, root))):
        named.append(shown(root, name, config))
    return named


def repository_file(
    root: Path,
    name: str,
    dest_uri: str | None,
    config: MkDocsConfig,
    inclusion: InclusionLevel = InclusionLevel.UNDEFINED,
) -> File:
    """Return a file of the repository by its path there; dest_uri is where it lies in the site, null as there."""
    return File(name, str(root), config.site_dir, config.use_directory_urls, dest_uri=dest_uri, inclusion=inclusion)


def written(name: str, dest_uri: str, content: str | bytes, config: MkDocsConfig, level: InclusionLevel) -> File:
    """Return a page, or where content is bytes a picture, that stands for the file of that name."""
    kind = WrittenPage if isinstance(content, str) else File
    file = kind(name, None, config.site_dir, config.use_directory_urls, dest_uri=dest_uri, inclusion=level)
    file._content = content
    return file


def linked(files: Files, root: Path) -> Iterator[str]:
    """Yield the files of the repository that pages link to and the site does not have yet."""
    for page in files.documentation_pages():
        for target in LINK.findall(page.content_string):
            path = (root / page.src_uri).parent.joinpath(target).resolve()
            if path.is_relative_to(root) and path.is_file():
                name = path.relative_to(root).as_posix()
                if name not in files.src_uris or files.src_uris[name].inclusion.is_excluded():
                    yield name


def shown(root: Path, name: str, config: MkDocsConfig) -> File:
    """Return a page that shows a text file."""
    path = root / name
    language = path.suffix.removeprefix(".") or "text"
    fence = f"````{language}\n{path.read_text(encoding='utf-8').rstrip()}\n````"
    page = f"---\nsearch:\n  exclude: true\n---\n# {path.name}\n\nThe file `{name}` of the repository.\n\n{fence}\n"
    return written(name, f"files/{name}/index.html", page, config, InclusionLevel.NOT_IN_NAV)


def notebook(root: Path, name: str, url: str, config: MkDocsConfig) -> Iterator[File]:
    """Yield a notebook's page, and the pictures among its outputs."""
    parts = []
    pictures = 0
    for cell in nbformat.read(root / name, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                pictures += 1
                picture = f"{url}/{pictures}.png"
                level = InclusionLevel.NOT_IN_NAV
                yield written(f"docs/{picture}", picture, base64.b64decode(data["image/png"]), config, level)
                parts.append(f"![output]({Path(url).name}/{pictures}.png)")
            elif "text/markdown" in data:
                parts.append(data["text/markdown"])
            else:
                parts.append(f"``` {{ .text .output }}\n{output.get('text') or data['text/plain']}\n```")
    yield written(name, f"{url}/index.html", "\n\n".join(parts), config, InclusionLevel.UNDEFINED)
