"""The rules of the Preview tab, for what Gradio has no component for. Colours are its theme's, so dark mode follows."""

CSS = """
:is(.result, .history) { --unseen: var(--neutral-200); } .dark :is(.result, .history) { --unseen: var(--neutral-800); }
.dark .adapters { color-scheme: dark; }
.adapters { display: flex; flex-direction: column; gap: 8px; }
.adapter { display: grid; gap: 8px; padding: 10px 12px; border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-lg); background: var(--block-background-fill); }
.adapter.off > :not(.head) { opacity: .45; }
.adapter .head { display: flex; align-items: center; gap: 10px; }
.adapter select, .adapter input[type=number] { min-height: 36px; padding: 5px 8px; font-size: var(--text-md);
  color: var(--body-text-color); background: var(--input-background-fill); border-radius: var(--radius-md);
  border: 1px solid var(--border-color-primary); }
.adapter select { appearance: auto; }
.adapter .file { flex: 1; min-width: 0; font-weight: 600; }
.adapter input[type=checkbox] { width: 18px; height: 18px; margin: 0; flex: none; appearance: auto;
  accent-color: var(--primary-600); }
.adapter .gone { flex: none; width: 32px; height: 32px; cursor: pointer; border-radius: var(--radius-md);
  color: var(--body-text-color-subdued); }
.adapter .gone:hover { background: var(--background-fill-secondary); color: var(--body-text-color); }
.adapter .strength { display: grid; grid-template-columns: 92px 1fr 78px; align-items: center; gap: 10px; }
.adapter .strength input[type=range] { width: 100%; min-width: 0; accent-color: var(--primary-600); }
.adapter .strength input[type=number] { width: 78px; text-align: right; font-variant-numeric: tabular-nums; }
.adapter label { font-size: var(--text-sm); color: var(--body-text-color-subdued); }
.adapter .more { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 6px 16px; }
.adapter .more label { display: flex; align-items: center; gap: 8px; margin: 0; white-space: nowrap; }
.adapter .more select { min-height: 32px; font-size: var(--text-sm); max-width: 210px; }
.adapter .chips:empty { display: none; }
.chip.word { cursor: pointer; font-size: var(--text-sm); }
.adapters .add { align-self: stretch; min-height: 38px; cursor: pointer; border-radius: var(--radius-lg);
  border: 1px dashed var(--border-color-primary); color: var(--body-text-color-subdued); font-size: var(--text-md); }
.adapters .add:hover { border-color: var(--primary-400); color: var(--body-text-color); }

#preview-bar { min-height: 34px; }
#preview-bar .sides { min-height: 34px; align-items: center; color: var(--body-text-color-subdued); }
.going { display: flex; align-items: center; gap: 12px; min-height: 34px; padding: 0 4px; font-size: var(--text-sm);
  font-variant-numeric: tabular-nums; }
.going .track { flex: 1; height: 8px; border-radius: 4px; overflow: hidden; background: var(--neutral-200); }
.dark .going .track { background: var(--neutral-700); }
.going .fill { height: 100%; border-radius: 4px; background: var(--primary-600); transition: width .15s linear; }
.going button, .result .tools a, .result .tools button { padding: 4px 12px; font-size: var(--text-sm); cursor: pointer;
  border-radius: var(--radius-md); color: var(--body-text-color); text-decoration: none; white-space: nowrap;
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }
.result [hidden] { display: none !important; }

.result .empty { min-height: min(60vh, 480px); }
.duo { margin: 0; --shown: min(100%, max(512px, var(--width) * 1px), 74vh * var(--width) / var(--height)); }
.duo .frame { position: relative; width: var(--shown); aspect-ratio: var(--width) / var(--height); overflow: hidden;
  margin: 0 auto; border-radius: var(--radius-lg); background: var(--unseen); }
.duo img { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; object-fit: fill; }
.duo .over { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.duo:not(.both) .over, .duo:not(.both) .divider, .duo:not(.both) .line { display: none; }
.duo .line { position: absolute; top: 0; bottom: 0; left: calc(var(--at) - 1px); width: 2px; background: white;
  box-shadow: 0 0 4px rgb(0 0 0 / .6); pointer-events: none; }
.duo .line::after { content: "◂ ▸"; position: absolute; top: 50%; left: 50%; translate: -50% -50%; padding: 5px 7px;
  font-size: 12px; font-style: normal; line-height: 1; white-space: nowrap; border-radius: 999px; color: #18181b;
  background: white; box-shadow: 0 1px 5px rgb(0 0 0 / .5); }
.duo .divider { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.duo .divider:focus-visible ~ .line, .duo .frame:has(.divider:focus-visible) .line { background: var(--primary-500);
  width: 4px; }
.duo .mark { position: absolute; top: 10px; right: 10px; padding: 2px 10px; border-radius: 999px; font-size: 12px;
  color: white; background: rgb(0 0 0 / .66); z-index: 1; }
.duo .mark:empty { display: none; }
.duo figcaption { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 14px; width: var(--shown);
  min-height: 38px; margin: 4px auto 0; font-size: var(--text-sm); }
.duo .right { flex: 1; text-align: right; overflow-wrap: anywhere; }
.duo:not(.both) .left { display: none; } .duo:not(.both) .right { text-align: left; }
.result .tools { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; }
.result .grid .tools { padding: 8px 2px; font-size: var(--text-sm); color: var(--body-text-color-subdued); }
.grid .scroll { overflow: auto; max-height: 78vh; }
.grid table { border-collapse: separate !important; border-spacing: 4px; border: 0 !important; margin: 0; }
.grid tr, .grid tbody, .grid thead, .grid td, .grid th { border: 0 !important; background: none !important; }
.grid td { padding: 0 !important; }
.grid th { padding: 2px 4px !important; font-size: var(--text-sm); font-weight: 600; text-align: center;
  font-variant-numeric: tabular-nums; }
.grid .what { font-weight: 400; color: var(--body-text-color-subdued); }
.grid thead th { max-width: 160px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.grid tbody th { max-width: 140px; min-width: 64px; text-align: right; font-variant-numeric: tabular-nums; }
.grid tbody th span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; overflow: hidden; }
.grid .cell { display: block; position: relative; padding: 0; cursor: pointer; overflow: hidden;
  width: clamp(72px, calc((100cqw - var(--head)) / var(--columns) - 6px), 220px);
  aspect-ratio: var(--width) / var(--height); border-radius: var(--radius-md); background: var(--unseen); }
.grid .cell:disabled { cursor: default; }
.grid .cell img { width: 100%; height: 100%; margin: 0; object-fit: cover; }
.grid .cell:hover:not(:disabled) { box-shadow: 0 0 0 3px var(--primary-400); }
#preview-result { container-type: inline-size; }
#preview-bar:not(:has(.going, .sides)):has(~ #preview-result .empty) { display: none; }
.history h4 { margin: 14px 0 6px; font-size: var(--text-sm); font-weight: 600; }
.history .pasts { display: grid; grid-template-columns: repeat(auto-fill, minmax(76px, 1fr)); gap: 6px;
  max-height: 250px; overflow-y: auto; padding: 3px; }
.past { position: relative; padding: 0; cursor: pointer; border-radius: var(--radius-md); overflow: hidden;
  background: var(--unseen); }
.past img { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: cover; margin: 0; }
.past span { position: absolute; left: 4px; bottom: 4px; padding: 0 7px; font-size: 11px; border-radius: 999px;
  color: white; background: rgb(0 0 0 / .66); }
.past:hover { box-shadow: 0 0 0 2px var(--primary-400); }
#preview-dice { white-space: nowrap; }
:is(.adapter, .adapters, .result, .history, .going) :is(button, select, input, a):focus-visible {
  outline: 2px solid var(--primary-500); outline-offset: 1px; }
"""
