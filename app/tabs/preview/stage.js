// Pictures with a divider between them, and tables. The value says what is shown; `trigger` calls Python.
let divided = 50, table = "";  // where the divider is, per cent; the grid that is shown
const place = element.querySelector(".result");
const make = (tag, more = {}, ...inner) => {
    const { data = {}, style = {}, ...rest } = more, made = Object.assign(document.createElement(tag), rest);
    Object.assign(made.dataset, data);
    for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
    made.append(...inner);
    return made;
};

function nothing() {
    place.replaceChildren(make("div", { className: "empty" }, make("b", { textContent: "See what was learned" }),
        make("span", { textContent: "Write what to draw, choose an adapter and press Draw. Then move its slider: base and result lie over each other at the same seed." })));
}

function set(image, source) {
    image.hidden = !source;
    if (source && image.getAttribute("src") !== source) image.src = source;
}

function frame() {  // built once, so that nothing flickers while a picture becomes clear
    const found = place.querySelector(".duo");
    if (found) return found;
    const divider = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: divided, className: "divider", ariaLabel: "Divider: base on the left, result on the right" });
    const made = make("figure", { className: "duo" },
        make("div", { className: "frame" }, make("img", { className: "under", alt: "result" }), make("img", { className: "over", alt: "base" }), make("span", { className: "mark" }), make("i", { className: "line" }), divider),
        make("figcaption", {}, make("b", { className: "left", textContent: "base" }), make("b", { className: "right" }),
            make("span", { className: "tools" }, make("button", { type: "button", className: "back", textContent: "Back to the grid" }), make("a", { className: "load", textContent: "Download" }))));
    divider.addEventListener("input", () => {
        divided = Number(divider.value);
        made.style.setProperty("--at", `${divided}%`);
    });
    made.querySelector(".back").addEventListener("click", () => trigger("back", { id: made.dataset.back }));
    place.replaceChildren(made);
    return made;
}

function picture(shown) {
    const whole = frame(), part = name => whole.querySelector(name), both = !!shown.base && !!shown.result && shown.base !== shown.result;
    table = "";
    whole.dataset.back = shown.back;
    whole.dataset.mark = shown.mark;
    whole.style.setProperty("--width", shown.width);
    whole.style.setProperty("--height", shown.height);
    whole.style.setProperty("--at", `${divided}%`);
    whole.classList.toggle("both", both);
    set(part(".under"), shown.result || shown.base);
    set(part(".over"), shown.base || shown.result);
    part(".over").alt = shown.base ? "base" : "result";
    part(".mark").textContent = shown.mark;
    part(".left").textContent = shown.base ? "base" : "";
    part(".right").textContent = shown.words;
    part(".back").hidden = !shown.back;
    const load = part(".load");
    load.hidden = !shown.download;
    if (shown.download) Object.assign(load, { href: `/previews/${shown.download}/full`, download: shown.download });
}

function begin(shown) {  // what is there stays until there is something newer
    if (!place.querySelector(".duo")) picture(shown);
}

function cell(at, shown) {
    const words = [`${shown.down} ${shown.rows[Math.floor(at / shown.columns.length)]}`, `${shown.across} ${shown.columns[at % shown.columns.length]}`].map(one => one.trim()).filter(Boolean).join(", ");
    const button = make("button", { type: "button", className: "cell", disabled: true, data: { place: at }, title: `${words}: take its settings` }, make("img", { alt: words, hidden: true, decoding: "async" }));
    button.addEventListener("click", () => trigger("take", { id: shown.id, place: at }));
    return button;
}

function grid(shown) {
    if (table !== shown.id) {
        table = shown.id;
        const head = shown.columns.map(words => make("th", { scope: "col", textContent: words, title: words }));
        const named = shown.rows.some(Boolean), width = shown.columns.length;
        const corner = (words = "") => named ? [make("td", { className: "what", textContent: words })] : [];
        const above = make("tr", {}, ...corner(), make("th", { className: "what", colSpan: width, textContent: shown.across }));
        const lines = shown.rows.map((words, row) => make("tr", {}, ...(named ? [make("th", { scope: "row", title: words }, make("span", { textContent: words }))] : []),
            ...shown.columns.map((_, column) => make("td", {}, cell(row * width + column, shown)))));
        const tools = make("div", { className: "tools" },
            make("a", { className: "load", textContent: "Download as one PNG", href: `/previews/${shown.id}-sheet.png/full`, download: `${shown.id}.png` }),
            make("a", { className: "load", textContent: "All pictures (.zip)", href: `/previews/${shown.id}.zip`, download: `${shown.id}.zip` }),
            make("span", { textContent: "Click a picture to take its settings." }));
        place.replaceChildren(make("div", { className: "grid", style: { "--columns": width, "--head": named ? "170px" : "4px" } },
            make("div", { className: "scroll" }, make("table", {}, make("thead", {}, above, make("tr", {}, ...corner(shown.down), ...head)), make("tbody", {}, ...lines))), tools));
    }
    const whole = place.querySelector(".grid");
    whole.style.setProperty("--width", shown.width);
    whole.style.setProperty("--height", shown.height);
    whole.dataset.done = shown.done ? "yes" : "";
    for (const button of whole.querySelectorAll(".cell")) {
        const source = shown.cells[button.dataset.place];
        button.disabled = !source;
        set(button.querySelector("img"), source);
    }
    for (const link of whole.querySelectorAll("a")) link.hidden = !shown.done;
}

function show() {
    const shown = JSON.parse(props.value || '{"kind":"none"}');
    ({ none: nothing, begin, picture, grid })[shown.kind](shown);
}

// Arrows go from cell to cell.
element.addEventListener("keydown", event => {
    const cells = [...element.querySelectorAll(".cell:not(:disabled)")], at = cells.indexOf(event.target);
    if (at < 0) return;
    const row = element.querySelectorAll("thead th[scope]").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }[event.key];
    if (!step) return;
    event.preventDefault();
    cells[Math.min(cells.length - 1, Math.max(0, at + step))].focus();
});

watch("value", show);
show();
