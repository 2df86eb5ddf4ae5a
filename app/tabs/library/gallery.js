// Cards and the keyboard. `element` is the cards' place in the page, `trigger` calls Python.
let opened = { id: "", key: "" }, everOpened = false;
const inLibrary = () => document.querySelector("[role=tab][aria-selected=true]")?.textContent.trim() === "Library";

function address() {  // a reload and a link open the same adapter
    if (!everOpened) return;  // the one that the address names is on its way
    const url = new URL(location);
    if (opened.key && inLibrary()) url.searchParams.set("adapter", opened.key);
    else url.searchParams.delete("adapter");
    if (url.href !== location.href) history.replaceState(history.state, "", url);
}

function mark() {
    for (const card of element.querySelectorAll(".card")) {
        if (card.dataset.id === opened.id) card.setAttribute("aria-current", "true");
        else card.removeAttribute("aria-current");
    }
}

function open(id, key) {
    if (id === opened.id && key === opened.key) return;
    opened = { id, key };
    everOpened = true;
    mark();
    address();
}

element.addEventListener("click", event => {
    const turn = event.target.closest("[data-page]");
    if (turn) return trigger("turn", { page: Number(turn.dataset.page) });
    const card = event.target.closest(".open")?.closest(".card");
    if (!card) return;
    open(card.dataset.id, card.dataset.key);
    trigger("pick", { id: card.dataset.id });
});

// Arrows go from card to card, down and up by a row.
element.addEventListener("keydown", event => {
    const cards = [...element.querySelectorAll(".open")], at = cards.indexOf(event.target);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const top = card => card.getBoundingClientRect().top;
    const row = Math.max(1, cards.findIndex(card => top(card) > top(cards[0]) + 1));
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }[event.key];
    if (!step) return;
    event.preventDefault();
    cards[Math.min(cards.length - 1, Math.max(0, at + step))].focus();
});

// What Python opened by itself is marked too; cards that came later are; while files are read, they are looked at again.
const SOON = 700;  // ms
let later = 0;
new MutationObserver(() => {
    mark();
    clearTimeout(later);
    if (element.querySelector(".reading")) later = setTimeout(() => element.isConnected && trigger("again", {}), SOON);
}).observe(element, { childList: true, subtree: true });
const head = document.getElementById("library-head");
new MutationObserver(() => {
    const shown = head.querySelector(".opened");
    open(shown?.dataset.id || "", shown?.dataset.key || "");
}).observe(head, { childList: true, subtree: true });
document.addEventListener("library-left", () => element.isConnected && address());
