// Tiles and the keyboard. `element` is the tiles' place in the page, `trigger` calls Python.
const by = id => document.getElementById(id);

let since = "";  // where a range begins: the tile that was clicked last

element.addEventListener("click", event => {
    const turn = event.target.closest("[data-page]");
    if (turn) return trigger("turn", { page: Number(turn.dataset.page) });
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const id = tile.dataset.id;
    trigger("pick", { id, add: event.ctrlKey || event.metaKey, range: event.shiftKey, since });
    if (!event.shiftKey) since = id;
});
element.addEventListener("mousedown", event => event.shiftKey && event.preventDefault());  // no text is selected by it

const KEYS = {  // with Alt
    ArrowDown: "dataset-next", ArrowRight: "dataset-next", ArrowUp: "dataset-previous", ArrowLeft: "dataset-previous",
};
document.addEventListener("keydown", event => {
    if (!element.offsetParent) return;  // another tab is open
    const saves = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    const button = saves ? "dataset-save" : event.altKey && !event.ctrlKey && KEYS[event.key];
    if (!button) return;
    event.preventDefault();
    (by(button).querySelector("button") || by(button)).click();
}, true);

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
