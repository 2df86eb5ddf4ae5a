"""The rules of the Queue tab, for what Gradio has no component for. Colours are its theme's, so dark mode follows."""

CSS = """
.jobs { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column; gap: 8px; }
.jobs li { position: relative; margin: 0; border: 1px solid var(--border-color-primary); overflow: hidden;
  border-radius: var(--radius-lg); background: var(--block-background-fill); }
.jobs li:hover { border-color: var(--primary-400); }
.jobs li[aria-current] { border-color: var(--primary-500); box-shadow: inset 3px 0 0 var(--primary-500); }
.jobs .open { display: block; width: 100%; padding: 10px 14px; text-align: left; cursor: pointer; color: inherit; }
.jobs button:focus-visible, .film button:focus-visible, .saves button:focus-visible, .saves a:focus-visible {
  outline: 2px solid var(--primary-500); outline-offset: -2px; }
.jobs .head { display: flex; align-items: baseline; gap: 8px; }
.jobs .head i { flex: none; width: 1.3em; font-style: normal; text-align: center; color: var(--primary-500); }
.jobs .head b { flex: 1 1 auto; min-width: 0; font-weight: 600; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.jobs .head em { flex: none; font-style: normal; font-size: var(--text-sm); color: var(--body-text-color-subdued); }
.jobs .track { display: block; height: 6px; margin: 8px 0 6px; border-radius: 3px; overflow: hidden;
  background: var(--neutral-200); }
.dark .jobs .track { background: var(--neutral-700); }
.jobs .fill { display: block; height: 100%; border-radius: 3px; background: var(--primary-600);
  transition: width .6s linear; }
.jobs [data-state=failed] .fill, .jobs [data-state=lost] .fill { background: #dc2626; }
.jobs [data-state=failed] .head i, .jobs [data-state=lost] .head i { color: #dc2626; }
.dark .jobs [data-state=failed] .head i, .dark .jobs [data-state=lost] .head i { color: #f87171; }
.jobs .figures { display: flex; flex-wrap: wrap; gap: 2px 14px; padding-right: 150px; min-height: 20px;
  font-size: var(--text-sm); color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.jobs .acts { position: absolute; right: 8px; bottom: 6px; display: flex; gap: 4px; }
.jobs .acts button { width: 28px; height: 26px; font-size: 11px; line-height: 1; cursor: pointer;
  border-radius: var(--radius-md); border: 1px solid var(--border-color-primary); color: var(--body-text-color);
  background: var(--button-secondary-background-fill); }
.jobs .acts button:hover { border-color: var(--primary-400); }

#run-acts button { white-space: nowrap; flex: none; width: auto; }

.film .reel { display: flex; align-items: center; gap: 12px; padding: 2px 0 10px; }
.film .reel .play { flex: none; width: 38px; height: 34px; border-radius: var(--radius-md); cursor: pointer;
  color: white; background: var(--primary-600); font-size: 12px; }
.film .reel input { flex: 1; min-width: 80px; accent-color: var(--primary-600); }
.film .reel output { flex: none; min-width: 6em; font-size: var(--text-sm); font-variant-numeric: tabular-nums; }
.film .cells, .film .asked { display: grid; gap: 10px; }
.film .cells { grid-template-columns: repeat(var(--columns), minmax(0, 300px)); }
.film .asked { grid-template-columns: repeat(auto-fill, minmax(110px, 160px)); }
.film figure { margin: 0; min-width: 0; }
.film figure button { display: block; width: 100%; cursor: zoom-in; padding: 0; }
.film img { display: block; width: 100%; height: auto; margin: 0; border-radius: var(--radius-md);
  background: var(--background-fill-secondary); }
.film figcaption { padding: 3px 2px 0; font-size: var(--text-xs); color: var(--body-text-color-subdued);
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.film h4 { margin: 14px 0 6px; font-size: var(--text-sm); font-weight: 600; }
dialog.enlarged { margin: auto; padding: 12px; border: 0; border-radius: var(--radius-lg); cursor: zoom-out;
  background: var(--block-background-fill); color: var(--body-text-color); max-width: 94vw; }
dialog.enlarged::backdrop { background: rgb(0 0 0 / .6); }
dialog.enlarged img { display: block; width: min(86vw, 76vh); height: auto; max-height: 80vh; object-fit: contain; }
dialog.enlarged p { margin: 8px 0 0; font-size: var(--text-sm); max-width: min(86vw, 76vh); }

.saves { width: 100%; border-collapse: collapse; font-size: var(--text-sm); }
.saves tr, .saves tbody { background: none !important; border: 0 !important; }
.saves th, .saves td { padding: 7px 14px 7px 0; text-align: left; vertical-align: middle; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important; font-variant-numeric: tabular-nums; }
.saves th { font-weight: 600; } .saves th em { display: block; font-style: normal; font-weight: 400;
  color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.saves td:last-child { padding-right: 0; }
.saves .acts { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: 6px; }
.saves .acts button, .saves .acts a { padding: 4px 10px; border: 1px solid var(--border-color-primary); cursor: pointer;
  border-radius: var(--radius-md); background: var(--button-secondary-background-fill); color: var(--body-text-color);
  text-decoration: none; white-space: nowrap; }
.saves .acts button:hover, .saves .acts a:hover { border-color: var(--primary-400); }
.run[data-state=failed] .note, .run[data-state=lost] .note { padding: 6px 10px; border-left: 4px solid #dc2626;
  background: var(--background-fill-secondary); color: var(--body-text-color); border-radius: var(--radius-sm); }
"""
