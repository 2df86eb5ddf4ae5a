"""The rules of the Dataset tab, for what Gradio has no component for. Colours are its theme's, so dark mode follows."""

CSS = """
#dataset-grid { --tile-opened: 3px solid var(--primary-500); --tile-chosen: inset 0 0 0 3px var(--primary-400); }
#dataset-grid .tiles-head { display: flex; justify-content: space-between; align-items: center; min-height: 30px;
  font-size: var(--text-sm); color: var(--body-text-color-subdued); padding: 0 2px 6px; }
#dataset-grid .turn { display: flex; align-items: center; gap: 8px; }
#dataset-grid .turn button { width: 28px; height: 26px; border-radius: var(--radius-md); cursor: pointer;
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }
#dataset-grid .turn button:disabled { opacity: .35; cursor: default; }
#dataset-grid .tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 8px;
  max-height: 620px; overflow-y: auto; padding: 4px; }
#dataset-grid .tile { position: relative; cursor: pointer; border-radius: var(--radius-md); overflow: hidden;
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary); }
#dataset-grid .tile img { width: 100%; aspect-ratio: 1; object-fit: cover; display: block; margin: 0;
  background: var(--background-fill-secondary); }
#dataset-grid .tile span { display: block; padding: 3px 6px 4px; font-size: 11px; line-height: 1.3; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis; color: var(--body-text-color); }
#dataset-grid .tile span.none { color: var(--body-text-color-subdued); font-style: italic; }
#dataset-grid .tile.out img { opacity: .3; filter: grayscale(1); }
#dataset-grid .tile.out::after { content: "left out"; position: absolute; top: 6px; left: 6px; padding: 1px 7px;
  font-size: 11px; border-radius: 999px; background: var(--neutral-800); color: white; }
kbd { padding: 0 5px; border: 1px solid var(--border-color-primary); border-radius: 4px; font-size: 11px;
  background: var(--block-background-fill); }

.stage { margin: 0; }
.stage > div { position: relative; display: flex; justify-content: center; align-items: center; overflow: hidden;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-lg); }
.stage .picture { position: relative; line-height: 0; cursor: crosshair; touch-action: none; }
.stage img { max-width: 100%; max-height: 320px; display: block; margin: 0; user-select: none; }
.stage svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.stage .dark { fill: rgb(0 0 0 / .55); } .stage .kept { fill: none; stroke: white; stroke-width: 2px;
  vector-effect: non-scaling-stroke; stroke-dasharray: 6 4; }
.stage .focus { fill: var(--primary-500); stroke: white; stroke-width: 2px; vector-effect: non-scaling-stroke; }
.stage figcaption { padding: 6px 2px 0; font-size: var(--text-sm); color: var(--body-text-color-subdued);
  overflow-wrap: anywhere; }

.drop { display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 6px;
  padding: 22px 16px; min-height: 168px; text-align: center; border: 1.5px dashed var(--border-color-primary);
  border-radius: var(--radius-lg); background: var(--block-background-fill); }
.drop.over { border-color: var(--primary-500); background: var(--background-fill-secondary); }
.drop > span { color: var(--body-text-color-subdued); font-size: var(--text-sm); max-width: 52ch; }
.drop .ways { display: flex; gap: 8px; margin-top: 6px; }
.drop button { cursor: pointer; padding: 6px 14px; border-radius: var(--radius-md);
  font-size: var(--text-sm);
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }
.drop .sending:not([hidden]) { display: flex; align-items: center; gap: 10px; width: 100%; max-width: 460px;
  font-size: var(--text-sm); margin-top: 4px; }
progress { flex: 1; min-width: 140px; height: 8px; accent-color: var(--primary-600); vertical-align: middle; }

#dataset-download a { color: var(--primary-600); text-decoration: underline; }
.dark #dataset-download a { color: var(--primary-400); }
.dataset-tags { display: flex; flex-wrap: wrap; gap: 6px; max-height: 190px; overflow-y: auto; padding: 2px; }
.dataset-tags button { cursor: pointer; padding: 2px 10px; border-radius: 999px; font-size: var(--text-sm);
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }
.dataset-tags button b { font-weight: 600; color: var(--body-text-color-subdued); }
.shapes { width: 100%; border-collapse: collapse; font-size: var(--text-sm); font-variant-numeric: tabular-nums; }
.shapes td { padding: 2px 12px 2px 0; white-space: nowrap; } .shapes td:nth-child(3) { width: 100%; }
.shapes i { display: block; height: 9px; border-radius: 4px; background: var(--primary-500); min-width: 2px; }
.finding { margin: 10px 0; padding: 10px 14px; border: 1px solid var(--border-color-primary);
  border-left: 4px solid #d97706; border-radius: var(--radius-md); background: var(--block-background-fill); }
.finding[data-severity=error] { border-left-color: #dc2626; }
.finding[data-severity=note] { border-left-color: var(--primary-400); }
.finding h4 { margin: 0 0 2px; font-weight: 600; } .finding p { margin: 0; font-size: var(--text-sm);
  color: var(--body-text-color-subdued); }
.finding .found { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0; }
.finding figure { position: relative; width: 104px; margin: 0; cursor: pointer; }
.finding figure img { width: 104px; height: 104px; object-fit: cover; margin: 0; border-radius: var(--radius-md); }
.finding figure.out img { opacity: .3; filter: grayscale(1); }
.finding figure button { position: absolute; top: 4px; right: 4px; width: 22px; height: 22px; line-height: 1;
  padding: 0; border-radius: 999px; color: white; background: rgb(0 0 0 / .6); cursor: pointer; }
.finding figcaption { padding-top: 3px; font-size: 11px; line-height: 1.3; overflow: hidden; display: -webkit-box;
  -webkit-line-clamp: 3; -webkit-box-orient: vertical; overflow-wrap: anywhere; color: var(--body-text-color-subdued); }
.finding .more { align-self: center; font-size: var(--text-sm); color: var(--body-text-color-subdued); }
.finding .fixes { display: flex; flex-wrap: wrap; gap: 8px; }
.finding .fixes button { padding: 4px 12px; border-radius: var(--radius-md); font-size: var(--text-sm); cursor: pointer;
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }
.finding .done { font-size: var(--text-sm); color: #16a34a; }
.before-after { width: 100%; border-collapse: collapse; font-size: var(--text-sm); }
.before-after td { padding: 4px 10px 4px 2px; border-bottom: 1px solid var(--border-color-primary); vertical-align: top;
  overflow-wrap: anywhere; width: 40%; }
.before-after td:first-child { width: 20%; color: var(--body-text-color-subdued); }
.said { display: flex; align-items: flex-start; gap: 12px; margin: 10px 0 0; }
.said img { width: 112px; height: 112px; object-fit: cover; margin: 0; border-radius: var(--radius-md); flex: none; }
.said figcaption { font-size: var(--text-sm); overflow-wrap: anywhere; max-height: 112px; overflow-y: auto; }
"""
