// Thumbnails of what was drawn, newest first. `trigger` calls Python.
const place = element.querySelector(".history");
let seen = "";
const make = (tag, more = {}, ...inner) => {
    const made = Object.assign(document.createElement(tag), more);
    made.append(...inner);
    return made;
};

function thumbnail(one) {
    const picture = make("img", { src: `/previews/${one.picture}/small`, alt: "", loading: "lazy", decoding: "async", width: 256, height: 256 });
    const button = make("button", { type: "button", className: "past", title: one.words, ariaLabel: `${one.grid ? "Grid" : "Picture"}: ${one.words}` }, picture);
    if (one.grid) button.append(make("span", { textContent: "grid" }));
    button.dataset.id = one.id;
    button.addEventListener("click", () => trigger("restore", { id: one.id }));
    return button;
}

async function look() {
    const answer = await fetch("/previews/history.json", { cache: "no-store" }).catch(() => null);
    if (!answer?.ok) return;
    const found = await answer.json(), word = JSON.stringify(found);
    if (word === seen) return;
    seen = word;
    const held = new Map([...place.querySelectorAll(".past")].map(one => [one.dataset.id, one]));
    place.replaceChildren(...found.length ? [make("h4", { textContent: "History" }), make("div", { className: "pasts" }, ...found.map(one => held.get(one.id) ?? thumbnail(one)))] : []);
}

watch("value", look);
look();
