// Tiles, captions and the keyboard. `element` is the tiles' place in the page, `trigger` calls Python.
const by = id => document.getElementById(id);
const box = () => by("dataset-caption")?.querySelector("textarea");
const IDLE = 1500;  // ms without typing after which a caption is saved
const PATIENCE = 30000;  // ms for an answer; then the next thing is asked for all the same

// What saves or opens goes through this lane, one after the other, so that each begins where the last one ended, and
// an older answer never comes last. What is typed on the way to another picture waits in it, and is typed there.
let lane = [], running = false, arrived = () => {}, before = "";
const flat = text => text.split("\n").map(line => line.trim().split(/\s+/).join(" ")).filter(Boolean).join("\n");
const captions = () => before.slice(before.indexOf("\n") + 1 || before.length);
const dirty = () => !!before && !!box() && flat(box().value) !== flat(captions());
const looks = task => ["again", "see"].includes(task.name);
const leads = task => task.name && task.name !== "keep" && !looks(task);  // to another picture
const held = () => lane.some(task => leads(task) || "text" in task);
const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

function enter(task) {
    if (leads(task) && box()) box().readOnly = true;
    lane.push(task);
    if (!running) run();
}

async function run() {
    running = true;
    await pause(0);
    for (; lane.length; lane.shift()) {
        const task = lane[0];
        if ("text" in task) await type(task.text);
        else if (task.name !== "keep" || dirty()) await ask(task);
        if (leads(task) && dirty()) lane = lane.filter(one => one === task || one.name === "again");  // it was not saved
        if (!lane.slice(1).some(one => leads(one) || "text" in one) && box()) box().readOnly = false;
    }
    running = false;
}

async function ask(task) {
    const answer = new Promise(resolve => { arrived = resolve; });
    trigger(task.name, { idle: false, ...task.data });
    const detail = await Promise.race([answer, pause(PATIENCE)]);
    if (!detail) return;
    const asked = before;
    before = detail.before;
    for (let left = 50; leads(task) && asked !== before && box()?.value !== detail.text && left; left--) await pause(10);
    if (task.name === "visit") by("dataset-stage").scrollIntoView({ block: "center" });
}

async function type(text) {
    box().setRangeText(text, box().selectionStart, box().selectionEnd, "end");
    box().dispatchEvent(new Event("input", { bubbles: true }));
    await pause(0);
}

function wait(event) {  // a key for the picture that is on its way
    const last = lane.length > 1 && "text" in lane.at(-1) && lane.at(-1), text = last ? last.text : "";
    const after = event.key === "Backspace" ? text.slice(0, -1) : text + (event.key === "Enter" ? "\n" : event.key);
    event.preventDefault();
    if (last) last.text = after;
    else if (after) lane.push({ text: after });
}

const listen = (name, how) => document.addEventListener(name, event => element.isConnected && how(event), true);
let idle = 0;
listen("dataset-arrived", event => arrived(event.detail));
const once = name => lane.slice(1).some(task => task.name === name) || enter({ name });
listen("dataset-changed", () => once("again"));
listen("dataset-seen", () => once("see"));
listen("dataset-wanted", () => enter({ name: "visit" }));
listen("focusout", event => event.target === box() && dirty() && enter({ name: "keep" }));
listen("input", event => {
    if (event.target !== box()) return;
    clearTimeout(idle);
    idle = setTimeout(() => dirty() && enter({ name: "keep", data: { idle: true } }), IDLE);
});
window.addEventListener("beforeunload", event => {
    if (element.isConnected && (dirty() || lane.some(task => "text" in task))) event.preventDefault();
});
enter({ name: "again" });  // a set may have been chosen before this was here

let since = "";  // where a range begins: the tile that was clicked last

element.tabIndex = -1;  // a click on a tile brings the keyboard here
element.style.outline = "none";
element.addEventListener("click", event => {
    const turn = event.target.closest("[data-page]");
    if (turn) return trigger("turn", { page: Number(turn.dataset.page) });
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const id = tile.dataset.id;
    enter({ name: "pick", data: { id, add: event.ctrlKey || event.metaKey, range: event.shiftKey, since } });
    if (!event.shiftKey) since = id;
});
element.addEventListener("mousedown", event => event.shiftKey && event.preventDefault());  // no text is selected by it

const step = (way, sure) => enter({ name: "step", data: { by: way, sure } });
const BUTTONS = { "dataset-previous": [-1, false], "dataset-next": [1, false], "dataset-save": [1, true] };
listen("click", event => {
    const button = event.target.closest?.(Object.keys(BUTTONS).map(id => `#${id}`).join());
    if (button) step(...BUTTONS[button.id]);
});
const KEYS = { ArrowDown: 1, ArrowUp: -1 };  // with Alt
listen("keydown", event => {
    if (event.target !== box() && !element.contains(event.target)) return;
    const control = event.ctrlKey || event.metaKey;
    const saves = event.key === "Enter" && control, way = event.altKey && !control && KEYS[event.key];
    if (saves || way) {
        event.preventDefault();
        if (!(event.repeat && held())) step(way || 1, saves);
    } else if (event.target === box() && held() && !control && !event.altKey
        && (event.key.length === 1 || ["Enter", "Backspace"].includes(event.key))) wait(event);
});

// The tile of the open picture stays in sight.
new MutationObserver(() => {
    const open = by("dataset-stage")?.querySelector(".stage")?.dataset.id;
    const tile = open && element.querySelector(`.tile[data-id="${open}"]`);
    const box = tile && tile.closest(".tiles");
    if (!tile || !box) return;
    const [inside, around] = [tile.getBoundingClientRect(), box.getBoundingClientRect()];
    if (inside.top < around.top) box.scrollTop -= around.top - inside.top + 4;
    if (inside.bottom > around.bottom) box.scrollTop += inside.bottom - around.bottom + 4;
}).observe(by("dataset-marks"), { childList: true, subtree: true, characterData: true });
