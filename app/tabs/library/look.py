"""The rules of the Library tab, for what Gradio has no component for. Colours are its theme's, so dark mode follows."""

CSS = """
#library-gallery .tiles-head { display: flex; justify-content: space-between; align-items: center; min-height: 30px;
  font-size: var(--text-sm); color: var(--body-text-color-subdued); padding: 0 2px 6px; }
#library-gallery .turn { display: flex; align-items: center; gap: 8px; }
#library-gallery .turn button { width: 32px; height: 28px; border-radius: var(--radius-md); cursor: pointer;
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }
#library-gallery .turn button:disabled { opacity: .35; cursor: default; }
#library-gallery .cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); gap: 12px;
  max-height: max(560px, calc(100vh - 300px)); overflow-y: auto; padding: 4px; }
.card { position: relative; display: flex; flex-direction: column; gap: 4px; padding-bottom: 10px; overflow: hidden;
  border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  background: var(--block-background-fill); content-visibility: auto; contain-intrinsic-size: auto 262px; }
.card:hover { border-color: var(--primary-400); }
.card[aria-current] { border-color: var(--primary-500); box-shadow: 0 0 0 2px var(--primary-500); }
.card .open { display: block; width: 100%; text-align: left; cursor: pointer; }
.card .open:focus-visible { outline: 3px solid var(--primary-500); outline-offset: -3px;
  border-radius: var(--radius-lg); }
.card img { width: 100%; height: auto; aspect-ratio: 1; object-fit: cover; display: block; margin: 0;
  background: var(--background-fill-secondary); }
.card b { display: block; padding: 8px 10px 0; font-size: var(--text-md); font-weight: 600; line-height: 1.25;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.figures { font-size: var(--text-xs); color: var(--body-text-color-subdued); line-height: 1.4; }
.card .figures, .card .chips, .card .trouble { padding: 0 10px; }
.card .family { color: var(--body-text-color); font-weight: 600; }
.card .whose { position: absolute; top: 8px; left: 8px; padding: 1px 8px; font-size: 11px; border-radius: 999px;
  color: white; background: rgb(0 0 0 / .66); pointer-events: none; }
.card .trouble { font-size: var(--text-xs); color: #dc2626; } .dark .card .trouble { color: #f87171; }
.chips { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; font-size: var(--text-xs);
  color: var(--body-text-color-subdued); }
.chip { position: relative; max-width: 100%; padding: 2px 9px; border-radius: 999px; cursor: copy;
  font-size: var(--text-xs); line-height: 1.45; color: var(--body-text-color); overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; text-align: left;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary); }
.chip:hover, .chip:focus-visible { border-color: var(--primary-500); }
.chip.copied::after { content: "copied"; position: absolute; inset: 0; display: grid; place-items: center;
  color: white; background: var(--primary-600); }
.tag { padding: 1px 8px; border-radius: var(--radius-sm); color: var(--primary-700); background: var(--primary-100); }
.dark .tag { color: var(--primary-200); background: var(--primary-900); }

.opened { display: flex; flex-direction: column; gap: 12px; }
.opened > .facts { display: grid; grid-template-columns: 120px 1fr; gap: 4px 16px; }
.opened img { width: 120px; height: 120px; object-fit: cover; margin: 0; border-radius: var(--radius-md);
  background: var(--background-fill-secondary); }
.opened h3 { margin: 2px 0 4px; font-size: 1.1rem; } .opened table { grid-column: 1 / -1; margin-top: 4px; }
.opened .figures { font-size: var(--text-sm); }
.opened .chip, #library-sent .chip { white-space: normal; overflow-wrap: anywhere; border-radius: var(--radius-md);
  margin: 0 4px 4px 0; font-size: var(--text-sm); }
.opened td a { color: var(--primary-600); text-decoration: underline; }
.dark .opened td a { color: var(--primary-400); }
.choices { display: flex; flex-wrap: wrap; gap: 8px; align-items: flex-end; }
.choices button, .choices .act, .removed button { flex: 1 1 auto; padding: 8px 10px; min-height: 40px; cursor: pointer;
  text-align: center; font-size: var(--text-md); font-weight: 600; border-radius: var(--radius-md);
  color: var(--button-secondary-text-color); background: var(--button-secondary-background-fill);
  border: 1px solid var(--border-color-primary); text-decoration: none; }
.choices button:hover:not(:disabled), .choices .act:hover { background: var(--button-secondary-background-fill-hover); }
.choices button:disabled { opacity: .45; cursor: default; }
.choices .main { color: white; background: var(--primary-600); border-color: transparent; }
.choices .main:hover { background: var(--primary-700) !important; }
.choices label { flex: 3 1 180px; } .choices label.tick { flex: 0 1 auto; display: flex; gap: 8px; align-items: center;
  min-height: 40px; margin: 0; }
.opened label { display: block; font-size: var(--text-sm); color: var(--body-text-color-subdued); }
.opened select, .own input, .own textarea { display: block; width: 100%; margin-top: 4px; padding: 8px 10px;
  min-height: 40px; font-size: var(--text-md); color: var(--body-text-color); background: var(--input-background-fill);
  border: 1px solid var(--border-color-primary); border-radius: var(--radius-md); }
.own ::placeholder { color: var(--input-placeholder-color); opacity: 1; } .opened select { appearance: auto; }
#library-delete { flex: 0 1 auto; }
.own { display: grid; gap: 8px; } .own textarea { resize: vertical; }
.opened :is(button, a, select, input, textarea):focus-visible, .chip:focus-visible {
  outline: 2px solid var(--primary-500); outline-offset: 1px; }
.removed { display: flex; align-items: center; justify-content: space-between; gap: 12px; }
.removed button { flex: none; }
#library-filter { flex-wrap: wrap; } #library-search { flex-basis: 100%; }
"""
