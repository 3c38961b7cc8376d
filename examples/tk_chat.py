"""A chat window from the standard library alone: ``python examples/tk_chat.py [MODEL]``.

The model works on a thread of its own; what it writes comes through a queue that the window empties 25 times
a second. pyqwen computes without the interpreter's lock, so the window stays quick meanwhile.
"""

from __future__ import annotations

import queue
import sys
import threading
import tkinter as tk
from collections.abc import Callable
from tkinter import scrolledtext, ttk
from typing import Any

from pyqwen import ChatCompletion, Model, PyQwenError, Stream

POLL_MS = 40


class Chat:
    """One window, one model, one conversation."""

    def __init__(self, root: tk.Tk, model_name: str) -> None:
        self.root, self.model_name = root, model_name
        self.messages: list[dict[str, Any]] = []
        self.model: Any = None  # a Model once it is loaded
        self.stream: Stream[ChatCompletion] | None = None
        self.events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.busy = self.closing = False
        self.build()
        self.start(self.load)
        root.protocol("WM_DELETE_WINDOW", self.close)
        self.poll()

    def build(self) -> None:
        self.root.title("pyqwen")
        self.root.geometry("760x600")
        self.root.columnconfigure(0, weight=1)
        self.root.rowconfigure(0, weight=1)
        look: dict[str, Any] = {"wrap": "word", "font": "TkTextFont", "relief": "flat"}
        self.view = scrolledtext.ScrolledText(self.root, state="disabled", padx=16, pady=12, **look)
        self.view.tag_configure("user", foreground="#5a55d2", spacing1=12, spacing3=4)
        self.view.tag_configure("problem", foreground="#b3261e", spacing1=8)
        self.view.grid(row=0, column=0, columnspan=2, sticky="nsew")
        self.entry = tk.Text(self.root, height=3, padx=8, pady=6, **look)
        self.entry.grid(row=1, column=0, sticky="ew", padx=(12, 6), pady=8)
        self.entry.bind("<Return>", self.on_return)
        self.entry.focus()
        buttons = ttk.Frame(self.root)
        buttons.grid(row=1, column=1, padx=(0, 12))
        self.button = ttk.Button(buttons, text="Send", command=self.send_or_stop)
        self.button.pack(fill="x")
        ttk.Button(buttons, text="New chat", command=self.new_chat).pack(fill="x", pady=(4, 0))
        self.status = ttk.Label(self.root, anchor="w", padding=(12, 4))
        self.status.grid(row=2, column=0, columnspan=2, sticky="ew")
        self.root.bind("<Escape>", lambda _: self.stop())

    def on_return(self, event: tk.Event) -> str | None:
        is_shift = bool(int(event.state) & 1)  # it makes a new line
        if not is_shift and not self.busy:
            self.send_or_stop()
        return None if is_shift else "break"

    def send_or_stop(self) -> None:
        text = self.entry.get("1.0", "end").strip()
        if self.busy:
            self.stop()
        elif text and self.model is not None:
            self.entry.delete("1.0", "end")
            self.show(f"{text}\n", "user")
            self.messages.append({"role": "user", "content": text})
            self.start(self.answer)

    def new_chat(self) -> None:
        if not self.busy:
            self.messages.clear()
            self.edit_view("delete", "1.0", "end")

    def stop(self) -> None:
        if (stream := self.stream) is not None:
            stream.cancel()  # any thread may call this; the answer ends within milliseconds

    def show(self, text: str, tag: str = "") -> None:
        self.edit_view("insert", "end", text, tag)

    def edit_view(self, method: str, *arguments: str) -> None:
        self.view.configure(state="normal")
        getattr(self.view, method)(*arguments)
        self.view.configure(state="disabled")
        self.view.see("end")

    def poll(self) -> None:
        while not self.events.empty():
            kind, value = self.events.get()
            if kind == "status":
                self.status["text"] = value
            elif kind == "done":
                self.busy, self.button["text"] = False, "Send"
            else:
                self.show(value, kind)
        self.root.after(POLL_MS, self.poll)

    def close(self) -> None:
        self.closing = True
        self.stop()
        self.root.destroy()
        self.thread.join(10)  # it ends at once: both kinds of jobs were told
        if self.model is not None:
            self.model.close()

    def start(self, job: Callable[[], None]) -> None:
        self.busy, self.button["text"] = True, "Stop"
        self.thread = threading.Thread(target=self.run, args=(job,), daemon=True)
        self.thread.start()

    # In a thread that works

    def run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except (PyQwenError, ValueError) as error:
            self.events.put(("problem", f"{error}\n"))
        self.events.put(("done", ""))

    def load(self) -> None:
        def watch(done: int, total: int) -> bool:
            self.events.put(("status", f"Loading {self.model_name}: {done / total:.0%}"))
            return not self.closing

        self.model = Model(self.model_name, progress=watch, download_progress=watch)
        self.events.put(("status", f"{self.model.path.name} is ready. Esc stops an answer."))

    def answer(self) -> None:
        with self.model.stream_chat(self.messages) as self.stream:
            for chunk in self.stream:
                self.events.put(("answer", chunk.text))
        reply, self.stream = self.stream.completion, None
        self.messages.append(reply.message)
        self.events.put(("answer", "\n"))
        rate, tokens = reply.timings.decode_tokens_per_second, reply.usage.total_tokens
        self.events.put(("status", f"{rate:.1f} tokens/s, {tokens:,} of {self.model.context:,}"))


if __name__ == "__main__":
    root = tk.Tk()
    Chat(root, sys.argv[1] if len(sys.argv) > 1 else "qwen2.5-coder-1.5b")
    root.mainloop()
