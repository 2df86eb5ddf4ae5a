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
.ends { align-items: flex-end; } .ends > button { min-height: 42px; }
.who { display: flex; align-items: center; justify-content: space-between; gap: 12px; padding: 10px 12px; }
.who button { padding: 6px 14px; border: 1px solid var(--border-color-primary); border-radius: var(--radius-md);
  cursor: pointer; }
.who button:hover { background: var(--background-fill-secondary); }

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
.report progress { display: block; width: 100%; max-width: 420px; height: 10px; margin-top: 6px;
  accent-color: var(--primary-600); }
.report summary { cursor: pointer; } .report li ul { max-height: 180px; overflow-y: auto; }
.changed { font-size: var(--text-sm); padding: 2px; } .changed ul { margin: 4px 0 0 18px; list-style: disc; }
.changed button { margin-left: 6px; padding: 0 8px !important; cursor: pointer; border-radius: 999px;
  font: inherit !important; background: none !important; border: 1px solid var(--border-color-primary);
  color: var(--body-text-color-subdued); }
.changed button:hover { color: var(--body-text-color); background: var(--background-fill-secondary); }

.plan-card { padding: 12px 14px; font-size: var(--text-sm); background: var(--block-background-fill);
  border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); }
.plan-card table { width: 100%; margin-top: 4px; border: 0 !important; border-collapse: collapse; }
.plan-card tr, .plan-card tbody { background: none !important; border: 0 !important; }
.plan-card th, .plan-card td { padding: 3px 10px 3px 0 !important; border: 0 !important; text-align: left;
  vertical-align: top; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.plan-card th { width: 5.5em; font-weight: 500; color: var(--body-text-color-subdued); }
.plan-card > table > tbody > tr > td { width: auto; }
.plan-card summary, .why summary { cursor: pointer; }
.why { padding: 6px 12px; font-size: var(--text-sm); color: var(--body-text-color-subdued);
  background: var(--block-background-fill); }
.why summary { color: var(--body-text-color); } .why[open] summary { margin-bottom: 4px; }
#train-fetch { padding: 4px 12px 12px; background: var(--block-background-fill); }
#train-fetch .base-note { padding: 0; }
.search { display: flex; align-items: center; gap: 10px; padding: 2px; }
.search input { flex: 1; min-width: 0; padding: 8px 12px; border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-md); background: var(--input-background-fill); color: var(--body-text-color); }
.search span { font-size: var(--text-sm); color: var(--body-text-color-subdued); }

.sides { display: flex; justify-content: space-between; gap: 12px; padding: 2px 4px; font-size: var(--text-sm); }
#concept-table .table-wrap * { font-family: var(--font) !important; }
.wrap { flex-wrap: wrap; }
#dataset-sample-style img, #dataset-sample-subject img { width: 30px; height: 30px; border-radius: var(--radius-sm); }
#dataset-create { white-space: nowrap; }

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
#tools-tabs .tab-container button { padding: 0 8px; } /* all four beside each other in a narrow column */
.conformance { margin-top: 12px; } .conformance > em { margin-top: 6px; font-size: var(--text-sm); }
 .conformance summary { cursor: pointer; }
.programs table { margin-top: 6px; }
.programs th { min-width: 0; width: 1%; }
.programs td:last-child { width: 1%; white-space: nowrap; }
.programs button { padding: 4px 12px; border-radius: var(--radius-md); font-size: var(--text-sm); cursor: pointer;
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill); }
#settings-hub th { width: 40%; }
.programs code, .facts code { font-size: var(--text-xs); overflow-wrap: anywhere; }
.programs summary { cursor: pointer; color: var(--body-text-color-subdued); }
.doctor .sign { width: 1.6em; font-weight: 700; }
.doctor .ok .sign { color: #16a34a; } .doctor .warn .sign { color: #d97706; } .doctor .bad .sign { color: #dc2626; }
"""
