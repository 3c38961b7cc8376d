// From what a model wrote to HTML that can do no harm: markdown-it without raw HTML, then DOMPurify.
import hljs from "./vendor/highlight/core.js";

const LANGUAGES = ["python", "javascript", "typescript", "json", "bash", "c", "cpp", "css", "diff", "go", "java",
  "rust", "sql", "xml", "yaml"];
const loaded = new Map();

// Load the grammar of a language when code of it is there for the first time.
function grammar(name, done) {
  if (!loaded.has(name)) {
    loaded.set(name, import(`./vendor/highlight/${name}.js`).then((module) => {
      hljs.registerLanguage(name, module.default);
    }));
  }
  loaded.get(name).then(done, () => {});
}

const ALIASES = { py: "python", js: "javascript", ts: "typescript", sh: "bash", shell: "bash", html: "xml",
  "c++": "cpp", yml: "yaml", golang: "go", rs: "rust" };

const markdown = globalThis.markdownit({ html: false, linkify: true, breaks: false });
markdown.disable("image"); // pictures from elsewhere would tell others what is read here

const PURE = {
  USE_PROFILES: { html: true },
  FORBID_TAGS: ["style", "form", "input", "button", "textarea", "select", "img", "video", "audio", "iframe", "svg"],
  FORBID_ATTR: ["style", "id", "name"],
  RETURN_DOM_FRAGMENT: true,
};

// The text as elements; code is highlighted once it is `complete`.
export function rendered(text, complete) {
  const fragment = globalThis.DOMPurify.sanitize(markdown.render(text), PURE);
  for (const link of fragment.querySelectorAll("a[href]")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  for (const code of fragment.querySelectorAll("pre > code")) dress(code, complete);
  return fragment;
}

function dress(code, complete) {
  const frame = document.createElement("div");
  frame.className = "code";
  const copy = document.createElement("button");
  copy.type = "button";
  copy.textContent = "Copy";
  copy.addEventListener("click", () => navigator.clipboard?.writeText(code.textContent));
  code.parentElement.replaceWith(frame);
  const block = document.createElement("pre");
  block.append(code);
  frame.append(block, copy);
  if (!complete || code.textContent.length > 50000) return;
  const word = (/language-([\w+#-]+)/.exec(code.className) || [])[1]?.toLowerCase();
  const language = ALIASES[word] || word;
  if (LANGUAGES.includes(language)) grammar(language, () => { colour(code, language); });
}

// highlight.js escapes what it is given; the result is purified all the same.
function colour(code, language) {
  const html = hljs.highlight(code.textContent, { language, ignoreIllegals: true }).value;
  code.replaceChildren(globalThis.DOMPurify.sanitize(html, { ...PURE, ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"] }));
}
