"""The few rules of our own, for what Gradio has no component for. Colours are its theme's, so dark mode follows."""

CSS = """
footer { display: none !important; }
.gradio-container { width: 100% !important; max-width: 1500px !important; margin: 0 auto !important;
  padding: 12px 20px 40px !important; }
.brand { display: flex; align-items: baseline; gap: 12px; padding: 4px 2px 0; }
.brand > b { font-size: 1.25rem; letter-spacing: -0.01em; }
.brand .now { color: var(--body-text-color); padding: 3px 12px; border-radius: 999px; cursor: pointer;
  border: 1px solid var(--border-color-primary);
  background: linear-gradient(90deg, var(--primary-200) var(--share), var(--block-background-fill) var(--share)); }
.dark .brand .now {
  background: linear-gradient(90deg, var(--primary-800) var(--share), var(--block-background-fill) var(--share)); }
.brand span, .hint { color: var(--body-text-color-subdued); font-size: var(--text-sm); }
.hint { padding: 2px; }
.html-container { padding: 0 !important; }
.halves { gap: 20px; align-items: flex-start; }
.tight { gap: 8px; }

.empty { display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 6px;
  text-align: center; min-height: 220px; padding: 24px; background: var(--block-background-fill);
  border: 1px dashed var(--border-color-primary);
  border-radius: var(--radius-lg); }
.empty b { font-size: 1.05rem; }
.empty span { color: var(--body-text-color-subdued); max-width: 46ch; }

.base-note { padding: 8px 12px; font-size: var(--text-sm); color: var(--body-text-color-subdued);
  background: var(--block-background-fill); }
.strip { display: flex; align-items: center; gap: 6px; flex-wrap: wrap; padding: 0 12px 10px; font-size: var(--text-sm);
  color: var(--body-text-color-subdued); background: var(--block-background-fill); }
.strip img { width: 44px; height: 44px; object-fit: cover; border-radius: var(--radius-sm); }

.run { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); padding: 12px 14px;
  background: var(--block-background-fill); overflow-wrap: anywhere; }
.run .track { height: 10px; margin: 10px 0 8px; border-radius: 5px; overflow: hidden; background: var(--neutral-200); }
.dark .run .track { background: var(--neutral-700); }
.run .fill { height: 100%; border-radius: 5px; background: var(--primary-600); transition: width .6s linear; }
.run[data-state=failed] .fill, .run[data-state=lost] .fill { background: var(--error-icon-color, #dc2626); }
.run .figures { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: var(--text-sm);
  font-variant-numeric: tabular-nums; }
.run .note, .run .plan, .run .notice { margin-top: 8px; font-size: var(--text-sm);
  color: var(--body-text-color-subdued); white-space: pre-line; }
.run .badge { margin-top: 8px; font-size: var(--text-sm); color: #059669; }
.dark .run .badge { color: #34d399; }
.run .plan { font-variant-numeric: tabular-nums; }
.run .notice { padding-left: 8px; border-left: 3px solid #d97706; }

.warning { padding: 6px 12px; font-size: var(--text-sm); border-left: 4px solid #d97706;
  background: var(--block-background-fill); color: var(--body-text-color); }
#train-problem, .wrong { border-left: 4px solid #dc2626; padding: 4px 12px !important; }
.report { padding: 8px 2px; } .report ul { margin: 4px 0 0 18px; list-style: disc; font-size: var(--text-sm); }
.report summary { cursor: pointer; } .report li ul { max-height: 180px; overflow-y: auto; }
.changed { font-size: var(--text-sm); padding: 2px; } .changed ul { margin: 4px 0 0 18px; list-style: disc; }

.sides { display: flex; justify-content: space-between; gap: 12px; padding: 2px 4px; font-size: var(--text-sm); }
#preview-result img { image-rendering: auto; }
#queue-table .table-wrap *, #concept-table .table-wrap * { font-family: var(--font) !important; }
#library-gallery .grid-wrap { height: auto !important; min-height: 180px !important; max-height: 640px; }
#library-gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)) !important; }
#run-samples .grid-container { grid-template-columns: repeat(var(--grid-cols), minmax(60px, 150px)) !important; }
#run-samples .grid-wrap { height: auto !important; min-height: 0 !important; max-height: 600px; }
#run-samples, #run-samples .gallery-container { min-height: 0 !important; height: auto !important; }
#dataset-sample-style img, #dataset-sample-subject img { width: 30px; height: 30px; border-radius: var(--radius-sm); }
#dataset-create { white-space: nowrap; }
.adapter-row { align-items: flex-end; flex-wrap: nowrap; }
.cross { align-self: center; }

.facts { padding: 12px 14px; background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-lg); }
.facts h3 { margin: 0 0 8px; overflow-wrap: anywhere; }
.facts table { width: 100%; border: 0 !important; border-collapse: collapse; font-size: var(--text-sm); }
.facts tr, .facts tbody { background: none !important; border: 0 !important; }
.facts th, .facts td { text-align: left; vertical-align: top; padding: 6px 10px 6px 0 !important; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important;
  overflow-wrap: anywhere; }
.facts th { font-weight: 600; min-width: 8em; overflow-wrap: normal; }
.facts em { display: block; font-style: normal; color: var(--body-text-color-subdued); }
.conformance { margin-top: 12px; } .conformance > em { margin-top: 6px; font-size: var(--text-sm); }
 .conformance summary { cursor: pointer; }
.doctor .sign { width: 1.6em; font-weight: 700; }
.doctor .ok .sign { color: #16a34a; } .doctor .warn .sign { color: #d97706; } .doctor .bad .sign { color: #dc2626; }
"""
