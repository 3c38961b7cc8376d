// The page: what is shown, and what buttons and keys do.
import { rendered } from "./markdown.js";
import { answer, models, ServerError } from "./server.js";
import * as store from "./store.js";

const $ = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "max_tokens", "seed"];
const TEXTS = ["system", "schema", "tools"];

let conversation = store.load(store.list()[0]?.id) || store.fresh();
let stopping = null; // the AbortController of the answer that is written
let contexts = {};

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function button(text, action) {
  const made = element("button", { type: "button", textContent: text });
  made.addEventListener("click", action);
  return made;
}

// ---------------------------------------------------------------- the conversation

function show() {
  $("messages").replaceChildren(...conversation.messages.map(shown));
  scroll(true);
  listConversations();
}

function shown(message, index) {
  const names = { user: "You", assistant: "Model", tool: "Tool" };
  const article = element("article", { className: message.role });
  article.append(element("h3", { textContent: names[message.role] || message.role }));
  if (message.reasoning) article.append(thoughts(message.reasoning));
  const text = element("div", { className: "text" });
  if (message.role === "assistant") text.append(rendered(message.content || "", true));
  else text.textContent = message.content;
  article.append(text);
  for (const call of message.tool_calls || []) article.append(shownCall(call, index));
  if (message.error) article.append(element("p", { className: "error", textContent: message.error }));
  const tools = element("div", { className: "tools" });
  tools.append(button("Copy", () => navigator.clipboard?.writeText(message.content || "")));
  if (message.role === "user") tools.append(button("Edit", () => edit(article, index)));
  if (message.role === "assistant") tools.append(button("Again", () => { cut(index); write(); }));
  article.append(tools);
  return article;
}

function thoughts(text) {
  const summary = element("summary", { textContent: "Thoughts" });
  return element("details", {}, summary, element("pre", { textContent: text }));
}

function shownCall(call, index) {
  const card = element("div", { className: "call" });
  const head = element("p", {}, "Calls ", element("code", { textContent: call.function.name }));
  card.append(head, element("pre", { textContent: pretty(call.function.arguments) }));
  const isOpen = !conversation.messages.some((other) => other.tool_call_id === call.id);
  if (isOpen && index !== undefined) {
    const result = element("textarea", { rows: 2, placeholder: "What the tool returned" });
    result.setAttribute("aria-label", `Result of ${call.function.name}`);
    card.append(result, button("Give result", () => {
      conversation.messages.push({ role: "tool", tool_call_id: call.id, content: result.value });
      const calls = conversation.messages[index].tool_calls;
      const answered = calls.every((one) => conversation.messages.some((m) => m.tool_call_id === one.id));
      show();
      if (answered) write();
    }));
  }
  return card;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function edit(article, index) {
  const box = element("textarea", { value: conversation.messages[index].content });
  box.setAttribute("aria-label", "Your message");
  const buttons = element("div", { className: "tools" });
  buttons.append(
    button("Send again", () => { cut(index); send(box.value); }),
    button("Leave as it was", show),
  );
  article.replaceChildren(box, buttons);
  box.focus();
}

function cut(index) {
  stopping?.abort();
  conversation.messages.length = index;
}

function send(text) {
  if (!text.trim() || stopping) return;
  if (!conversation.messages.length) conversation.title = text.trim().slice(0, 60);
  conversation.messages.push({ role: "user", content: text });
  write();
}

// ---------------------------------------------------------------- one answer

function request() {
  const saved = store.settings();
  const body = { model: $("model").value || undefined, messages: [] };
  if (saved.system) body.messages.push({ role: "system", content: saved.system });
  for (const { role, content, tool_calls, tool_call_id } of conversation.messages) {
    body.messages.push({ role, content, ...(tool_calls && { tool_calls }), ...(tool_call_id && { tool_call_id }) });
  }
  for (const name of NUMBERS) if (saved[name] !== undefined) body[name] = saved[name];
  if (saved.schema) {
    body.response_format = { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(saved.schema) } };
  }
  if (saved.tools) body.tools = JSON.parse(saved.tools);
  if (saved.no_thinking) body.chat_template_kwargs = { enable_thinking: false };
  return body;
}

async function write() {
  const message = { role: "assistant", content: "" };
  const body = request();
  show();
  const article = shown(message);
  $("messages").append(article);
  const text = article.querySelector(".text");
  stopping = new AbortController();
  busy(true);
  let drawn = 0;
  const draw = (complete) => {
    drawn = performance.now();
    text.replaceChildren(rendered(message.content, complete));
    scroll();
  };
  try {
    for await (const event of answer(body, store.key(), stopping.signal)) {
      take(event, message);
      // A long text is drawn less often: each time all of it is.
      if (performance.now() - drawn > 30 + message.content.length / 200) draw(false);
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      message.error = error.message;
      if (error instanceof ServerError && error.status === 401) openSettings("The server asks for an API key.");
    } else {
      message.stopped = true;
    }
  }
  stopping = null;
  busy(false);
  conversation.messages.push(message);
  if (!store.save(conversation)) message.error = "This browser has no room to keep the conversation.";
  show();
  $("said").textContent = message.error || message.content.slice(0, 2000) || "The answer is complete.";
  $("prompt").focus();
}

function take(event, message) {
  if (event.prompt_progress) {
    const { processed, total } = event.prompt_progress;
    $("speed").textContent = `reading ${processed} / ${total}`;
  }
  const delta = event.choices[0]?.delta || {};
  if (delta.content) message.content += delta.content;
  if (delta.reasoning_content) {
    message.reasoning = (message.reasoning || "") + delta.reasoning_content;
    $("speed").textContent = "thinking";
  }
  for (const call of delta.tool_calls || []) {
    message.tool_calls ||= [];
    const known = message.tool_calls[call.index];
    if (known) known.function.arguments += call.function.arguments || "";
    else message.tool_calls[call.index] = { id: call.id, type: "function", function: { ...call.function } };
  }
  if (event.usage) measure(event.usage, event.timings);
}

function measure(usage, timings) {
  const rate = timings?.predicted_per_second || 0;
  $("speed").textContent = rate ? `${rate.toFixed(1)} tokens/s` : "";
  const most = contexts[$("model").value];
  if (!most) return;
  $("context").value = usage.total_tokens / most;
  $("context-text").textContent = `${usage.total_tokens} / ${most}`;
}

function busy(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
  $("messages").setAttribute("aria-busy", String(is));
}

// Follow the text unless the reader looks at something above.
function scroll(always) {
  const box = $("messages");
  if (always || box.scrollHeight - box.scrollTop - box.clientHeight < 160) box.scrollTop = box.scrollHeight;
}

// ---------------------------------------------------------------- around it

function listConversations() {
  const entries = store.list();
  if (!entries.some((entry) => entry.id === conversation.id)) entries.unshift(conversation);
  $("conversations").replaceChildren(...entries.map((entry) => {
    const open = button(entry.title, () => {
      stopping?.abort();
      conversation = store.load(entry.id) || conversation;
      menu(false);
      show();
    });
    if (entry.id === conversation.id) open.setAttribute("aria-current", "true");
    return element("li", {}, open);
  }));
}

function menu(open) {
  $("sidebar").classList.toggle("open", open);
  $("menu").setAttribute("aria-expanded", String(open));
}

async function listModels() {
  try {
    const found = await models(store.key());
    contexts = Object.fromEntries(found.map((one) => [one.id, one.meta?.n_ctx]));
    const chosen = $("model").value || store.settings().model;
    $("model").replaceChildren(...found.map((one) => element("option", { value: one.id, textContent: one.id })));
    if (found.some((one) => one.id === chosen)) $("model").value = chosen;
  } catch (error) {
    if (error.status === 401) openSettings("The server asks for an API key.");
    else $("said").textContent = $("speed").textContent = error.message;
  }
}

function openSettings(message = "") {
  const saved = store.settings();
  for (const name of [...NUMBERS, ...TEXTS]) $(name).value = saved[name] ?? "";
  $("no_thinking").checked = Boolean(saved.no_thinking);
  $("key").value = store.key();
  $("settings-error").textContent = message;
  if (!$("settings").open) $("settings").showModal();
}

function saveSettings(event) {
  const saved = { model: $("model").value };
  for (const name of TEXTS) if ($(name).value.trim()) saved[name] = $(name).value;
  for (const name of NUMBERS) if ($(name).value !== "") saved[name] = Number($(name).value);
  if ($("no_thinking").checked) saved.no_thinking = true;
  try {
    if (saved.schema) JSON.parse(saved.schema);
    if (saved.tools && !Array.isArray(JSON.parse(saved.tools))) throw new Error("tools must be a list");
  } catch (error) {
    event.preventDefault();
    $("settings-error").textContent = `This is not what it should be: ${error.message}`;
    return;
  }
  store.saveSettings(saved);
  store.saveKey($("key").value);
  listModels();
}

function exportConversation() {
  for (const [kind, type, text] of [
    ["md", "text/markdown", store.asMarkdown(conversation)],
    ["json", "application/json", JSON.stringify(conversation.messages, null, 2)],
  ]) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const link = element("a", { href: url, download: `${conversation.title.replace(/[^\w-]+/g, "-") || "chat"}.${kind}` });
    link.click();
    URL.revokeObjectURL(url);
  }
}

function setTheme(dark) {
  document.documentElement.classList.toggle("dark", dark);
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("prompt").value;
  if (stopping || !text.trim()) return;
  $("prompt").value = "";
  send(text);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("settings").open) {
    stopping?.abort();
    menu(false);
  }
});
$("stop").addEventListener("click", () => stopping?.abort());
$("new").addEventListener("click", () => {
  stopping?.abort();
  conversation = store.fresh();
  menu(false);
  show();
  $("prompt").focus();
});
$("delete").addEventListener("click", () => {
  stopping?.abort();
  store.remove(conversation.id);
  conversation = store.load(store.list()[0]?.id) || store.fresh();
  show();
});
$("export").addEventListener("click", exportConversation);
$("menu").addEventListener("click", () => menu(!$("sidebar").classList.contains("open")));
$("open-settings").addEventListener("click", () => openSettings());
$("settings").querySelector("form").addEventListener("submit", saveSettings);
$("model").addEventListener("change", () => store.saveSettings({ ...store.settings(), model: $("model").value }));
$("theme").addEventListener("click", () => {
  const dark = !document.documentElement.classList.contains("dark");
  store.saveTheme(dark ? "dark" : "light");
  setTheme(dark);
});

setTheme((store.theme() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark");
show();
listModels();
