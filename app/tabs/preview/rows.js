// The adapters that are drawn with. The value is their list; `element` is their place in the page, `trigger` calls Python.
const presets = PRESETS;  // [title, name] of block weights
const SOON = 90;  // ms that a slider rests before a draft is asked for
const NEW = { file: "", on: true, unet: 1, text: null, blocks: "" };
let rows = [], known = [], later = 0;

const make = (tag, more = {}, ...inner) => {
    const { data = {}, ...rest } = more, made = Object.assign(document.createElement(tag), rest);
    Object.assign(made.dataset, data);
    made.append(...inner);
    return made;
};
const choice = row => known.find(one => one.value === row.file);
const plain = number => String(Math.round(number * 1000) / 1000);

function keep() {  // what Python is given with the next event
    props.value = JSON.stringify(rows);
}

function settled(name, data = {}) {
    clearTimeout(later);
    keep();
    trigger(name, data);
}

function files(row) {
    const list = make("select", { className: "file", ariaLabel: "Adapter" });
    list.append(make("option", { value: "", textContent: known.length ? "choose an adapter" : "no adapter yet: train one, or add a file in the Library" }));
    for (const group of new Set(known.map(one => one.group))) {
        const inner = known.filter(one => one.group === group).map(one => make("option", { value: one.value, textContent: one.title }));
        list.append(make("optgroup", { label: group }, ...inner));
    }
    if (row.file && !choice(row)) list.append(make("option", { value: row.file, textContent: row.file.replace(/^run:/, "newest file of ").split(/[\\/]/).pop() }));
    list.value = row.file;
    return list;
}

function slider(row, key, words, id) {
    const range = make("input", { type: "range", min: -2, max: 2, step: 0.05, value: row[key], ariaLabel: words });
    const number = make("input", { type: "number", min: -100, max: 100, step: 0.05, value: plain(row[key]), ariaLabel: `${words}, any number`, title: "Beyond the slider: type a number" });
    range.addEventListener("input", () => {
        row[key] = Number(range.value);
        number.value = plain(row[key]);
        keep();
        clearTimeout(later);
        later = setTimeout(() => trigger("moving", {}), SOON);
    });
    range.addEventListener("change", () => settled("moved"));
    number.addEventListener("change", () => {
        if (number.value === "" || number.validity.rangeOverflow || number.validity.rangeUnderflow) number.value = plain(row[key]);
        if (Number(number.value) === row[key]) return;
        row[key] = Number(number.value);
        range.value = row[key];
        settled("moved");
    });
    return make("div", { className: "strength", id }, make("label", { textContent: words }), range, number);
}

function words(row) {
    const box = make("div", { className: "chips" });
    for (const word of choice(row)?.words ?? []) {
        const chip = make("button", { type: "button", className: "chip word", textContent: word, title: `Put into the prompt: ${word}`, data: { word } });
        chip.addEventListener("click", () => put(word));
        box.append(chip);
    }
    return box;
}

const prompt = () => document.querySelector("#preview-prompt textarea");
function put(word) {
    const box = prompt(), text = box.value.trim();
    if (!text.includes(word)) {
        box.value = [word, text].filter(Boolean).join(", ");
        box.dispatchEvent(new Event("input", { bubbles: true }));
    }
    box.focus();
}

function more(row) {
    const split = make("input", { type: "checkbox", checked: row.text !== null, className: "split" });
    const blocks = make("select", { ariaLabel: "Blocks", className: "blocks" }, ...presets.map(([title, name]) => make("option", { value: name, textContent: title })));
    if (!presets.some(([, name]) => name === row.blocks)) blocks.append(make("option", { value: row.blocks, textContent: row.blocks }));
    blocks.value = row.blocks;
    split.addEventListener("change", () => {
        row.text = split.checked ? row.unet : null;
        draw();
        settled("moved");
        element.querySelectorAll(".split")[rows.indexOf(row)].focus();
    });
    blocks.addEventListener("change", () => {
        row.blocks = blocks.value;
        settled("moved");
    });
    return make("div", { className: "more" }, make("label", { className: "tick", title: "A strength of its own for the text encoders" }, split, "split text / UNet"), make("label", {}, "Blocks", blocks));
}

function one(row, number) {
    const on = make("input", { type: "checkbox", checked: row.on, className: "on", ariaLabel: "Use this adapter", title: "Use this adapter" });
    const file = files(row), gone = make("button", { type: "button", className: "gone", textContent: "✕", ariaLabel: "Remove this adapter" });
    file.id = `preview-file-${number}`;
    on.addEventListener("change", () => {
        row.on = on.checked;
        draw();
        settled("moved");
        element.querySelectorAll(".on")[number].focus();
    });
    file.addEventListener("change", () => {
        row.file = file.value;
        const advised = choice(row)?.strength;
        if (advised) row.unet = advised;
        draw();
        settled("choose", { file: row.file });
        document.getElementById(`preview-file-${number}`).focus();
    });
    gone.addEventListener("click", () => {
        rows.splice(number, 1);
        if (!rows.length) rows.push({ ...NEW });
        draw();
        settled(row.file && row.on ? "moved" : "idle");
        element.querySelector(".add").focus();
    });
    const whole = make("div", { className: `adapter${row.on ? "" : " off"}` }, make("div", { className: "head" }, on, file, gone));
    if (row.file) {
        whole.append(slider(row, "unet", row.text === null ? "Strength" : "UNet", `preview-strength-${number}`));
        if (row.text !== null) whole.append(slider(row, "text", "Text encoder", `preview-text-${number}`));
        whole.append(more(row), words(row));
    }
    return whole;
}

function draw() {
    const add = make("button", { type: "button", className: "add", id: "preview-add", textContent: "Add another adapter" });
    add.addEventListener("click", () => {
        rows.push({ ...NEW });
        draw();
        keep();
        document.getElementById(`preview-file-${rows.length - 1}`).focus();
    });
    element.querySelector(".adapters").replaceChildren(...rows.map(one), add);
}

async function look() {  // which adapters there are now
    const answer = await fetch("/previews/adapters.json", { cache: "no-store" }).catch(() => null);
    if (!answer?.ok) return;
    const found = await answer.json();
    if (JSON.stringify(found) === JSON.stringify(known)) return;
    known = found;
    const held = document.activeElement, id = element.contains(held) ? held.id : "";
    draw();
    if (id) document.getElementById(id)?.focus();
}

function read() {
    rows = JSON.parse(props.value || "[]");
    draw();
    if (rows.some(row => row.file && !choice(row))) look();
}

watch("value", read);
read();
look();
new IntersectionObserver(seen => seen.some(one => one.isIntersecting) && look()).observe(element);
