// Shows only the settings that have all the words in their name, their help or their default. By rules of style, since
// Gradio puts the fields of a group into the page when it is first opened.
const box = element.querySelector(".search");
const [input, told, style] = ["input", "[role=status]", "style"].map(what => box.querySelector(what));
const index = JSON.parse(box.dataset.index);
const groups = [...new Set(index.map(one => one.group))];

const toggle = (group, open) => {
    const button = document.querySelector(`#group-${group} > button`);
    if (button && button.classList.contains("open") !== open) button.click();
};

let opened = [];
const find = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) {
        style.textContent = told.textContent = "";
        opened.forEach(group => toggle(group, false));
        opened = [];
        return;
    }
    const fits = one => words.every(word => one.text.includes(word));
    const found = index.filter(fits), there = new Set(found.map(one => one.group));
    const hidden = [
        ...index.filter(one => !fits(one)).map(one => `#${one.id}`),
        ...groups.filter(group => !there.has(group)).map(group => `#group-${group}`),
    ];
    style.textContent = `${hidden.join(",")}{display:none!important}`;
    told.textContent = found.length ? `${found.length} of ${index.length}` : "Nothing of that name. Try another word.";
    for (const group of groups) {
        const wanted = there.has(group) && there.size <= 4;
        if (wanted && !opened.includes(group)) {
            const button = document.querySelector(`#group-${group} > button`);
            if (button && !button.classList.contains("open")) { button.click(); opened.push(group); }
        } else if (!wanted && opened.includes(group)) {
            toggle(group, false);
            opened = opened.filter(one => one !== group);
        }
    }
};
input.addEventListener("input", find);
input.addEventListener("keydown", event => {
    if (event.key === "Escape") { input.value = ""; find(); }
});
