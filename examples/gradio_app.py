"""A web page for one adapter: `pip install gradio`, then `python examples/gradio_app.py leaves`."""

from __future__ import annotations

import sys

import gradio as gr

from lensmount_client import Client

client = Client()  # LENSMOUNT_URL, or this machine


def label(path: str) -> tuple[dict[str, float], str]:
    answer = client.predict(path, adapter=sys.argv[1])
    return {score.label: score.score for score in answer.predictions}, str(answer)


if __name__ == "__main__":
    gr.Interface(label, gr.Image(type="filepath"), [gr.Label(), gr.Text(label="worth")]).launch()
