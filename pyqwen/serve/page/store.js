// Conversations and settings, kept in this browser. The key lives as long as the tab.

const PREFIX = "pyqwen:";

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

// Returns whether there was room.
function write(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export const settings = () => read("settings", {});
export const saveSettings = (value) => write("settings", value);
export const theme = () => read("theme", null);
export const saveTheme = (value) => write("theme", value);
export const key = () => sessionStorage.getItem(PREFIX + "key") || "";
export const saveKey = (value) => sessionStorage.setItem(PREFIX + "key", value);

export const list = () => read("index", []);
export const load = (id) => read(`chat:${id}`, null);

export function save(conversation) {
  const index = list().filter((entry) => entry.id !== conversation.id);
  index.unshift({ id: conversation.id, title: conversation.title });
  return write(`chat:${conversation.id}`, conversation) && write("index", index);
}

export function remove(id) {
  localStorage.removeItem(`${PREFIX}chat:${id}`);
  write("index", list().filter((entry) => entry.id !== id));
}

export function fresh() {
  return { id: crypto.randomUUID?.() || String(Date.now()), title: "New conversation", messages: [] };
}

// The conversation as Markdown, for people.
export function asMarkdown(conversation) {
  const parts = conversation.messages.map((message) => {
    const calls = (message.tool_calls || []).map((call) => `- ${call.function.name}(${call.function.arguments})`);
    return [`## ${message.role}`, message.content || "", ...calls].join("\n\n");
  });
  return [`# ${conversation.title}`, ...parts].join("\n\n") + "\n";
}
