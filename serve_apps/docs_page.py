"""The page at /docs, made from the OpenAPI document alone: no script and no address outside."""

from html import escape
from typing import Any

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:14px/1.5 ui-monospace,monospace;background:#f3f3f3;border-radius:4px}
pre{padding:.8rem;overflow-x:auto} code{padding:.1rem .3rem} td,th{text-align:left;
padding:.2rem 1rem .2rem 0;vertical-align:top} section{border-top:1px solid #ccc}
"""
EXAMPLES = """\
URL=http://127.0.0.1:8000  # of this service

# JSON, arrays as base64 of little-endian float32
curl -H 'Content-Type: application/edf' --data-binary @night.edf $URL/v1/embeddings

# numpy
curl -H 'Content-Type: application/edf' -H 'Accept: application/x-npz' \\
     --data-binary @night.edf -o night.npz $URL/v1/embeddings

# the night's vector alone, in half precision
curl -H 'Content-Type: application/edf' --data-binary @night.edf \\
     "$URL/v1/embeddings?level=night&dtype=float16"

# what would be used of a recording
curl -H 'Content-Type: application/edf' --data-binary @night.edf $URL/v1/inspect
"""


def docs_page(openapi: dict[str, Any]) -> str:  # Any: a JSON document
    """HTML that lists routes, parameters, answers and examples; the same for every request."""
    info = openapi["info"]
    sections = [
        _section(method.upper(), path, operation)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}'
        f"</title><style>{STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p><pre>{escape(EXAMPLES)}</pre>"
        f'{"".join(sections)}<p>Machine-readable: <a href="openapi.json">openapi.json</a></p>'
    )


def _section(method: str, path: str, operation: dict[str, Any]) -> str:  # Any: JSON
    parameters = "".join(
        f"<tr><td><code>{escape(p['name'])}</code> ({escape(p['in'])})"
        f"<td>{escape(p.get('description', ''))}"
        for p in operation.get("parameters", ())
    )
    answers = "".join(
        f"<tr><td>{escape(status)}<td>{escape(answer['description'])}"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<section><h2><code>{method} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('description') or operation['summary'])}</p>"
        f"<table>{parameters}{answers}</table></section>"
    )
