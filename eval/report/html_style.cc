// The style sheet of report.html. Colours: viridis (perceptually uniform; reversed on light pages, so that damage stands out
// on both) for maps, Okabe and Ito's for lines, each dark or light enough for its page.
#include "eval/report/html_sections.h"

namespace qfid::eval {

std::string_view html_style() {
  return R"css(
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#57606a;--edge:#d0d7de;--panel:#f6f8fa;--link:#0b5cad;
--bad:#b42318;--good:#1a7f37;--doubt:#8a5a00;--accent:#0b5cad;
--c0:#0072b2;--c1:#c44e00;--c2:#00795c;--c3:#a03f78;--c4:#7a6000;--c5:#3a7ca5;--c6:#6b4fbb;--c7:#4d4d4d;
--h0:#fde725;--h1:#addc30;--h2:#5ec962;--h3:#28ae80;--h4:#21918c;--h5:#2c728e;--h6:#3b528b;--h7:#472d7b;--h8:#440154;
--t0:#111;--t1:#111;--t2:#111;--t3:#111;--t4:#000;--t5:#fff;--t6:#fff;--t7:#fff;--t8:#fff}
@media (prefers-color-scheme:dark){:root{--bg:#0f1318;--fg:#e6edf3;--soft:#9aa7b4;--edge:#30363d;--panel:#171c23;--link:#6cb6ff;
--bad:#ff8a80;--good:#6fdc8c;--doubt:#f0c04a;--accent:#6cb6ff;
--c0:#56b4e9;--c1:#ff9a52;--c2:#2fd0a5;--c3:#e79bca;--c4:#e8d94a;--c5:#9ecbff;--c6:#b9a4ff;--c7:#b0b0b0;
--h8:#fde725;--h7:#addc30;--h6:#5ec962;--h5:#28ae80;--h4:#21918c;--h3:#2c728e;--h2:#3b528b;--h1:#472d7b;--h0:#440154;
--t8:#111;--t7:#111;--t6:#111;--t5:#111;--t4:#000;--t3:#fff;--t2:#fff;--t1:#fff;--t0:#fff}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:16px 24px 48px;max-width:1280px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
h1{font-size:26px;line-height:1.2;margin:4px 0}h2{font-size:20px;margin:0 0 8px}h3{font-size:16px;margin:20px 0 6px}
h4{font-size:14px;margin:14px 0 4px;color:var(--soft)}
p{margin:6px 0;max-width:100ch}header p,.small,figcaption,caption,small{color:var(--soft);font-size:13px}
h2 small{font-weight:400}
a{color:var(--link)}a:focus-visible,summary:focus-visible,.scroll:focus-visible,pre:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.skip{position:absolute;left:-9999px}.skip:focus{left:16px;top:8px;background:var(--bg);padding:6px 10px}
.banner{border-left:4px solid var(--bad);background:var(--panel);padding:6px 12px;color:var(--fg);max-width:none}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:14px;margin:14px 0 8px}
.card{border:1px solid var(--edge);border-radius:8px;background:var(--panel);padding:12px 16px}
main>.card{margin-top:14px}.card h2{font-size:17px}dl{margin:0}dt{font-size:12.5px;color:var(--soft);margin-top:7px}dd{margin:0}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:14px 0}.facts dt{margin:0}
nav ul{display:flex;flex-wrap:wrap;gap:4px 16px;padding:8px 0;margin:0;list-style:none;border-bottom:1px solid var(--edge);font-size:14px}
section{margin-top:30px}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;overflow-wrap:normal}
caption{text-align:left;position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
th,td{padding:3px 12px 3px 0;text-align:left;white-space:nowrap;border-bottom:1px solid var(--edge);vertical-align:middle}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom}tbody th{font-weight:600}
td.wrap{white-space:normal;min-width:240px;max-width:640px;overflow-wrap:anywhere}
td.plot,th.plot{padding:0 14px 0 0}td.plot svg,th.plot svg{display:block}td.plot{border-bottom:0}
.verdict{font-weight:600}.v0,.v1{color:var(--bad)}.v2{color:var(--doubt)}.v3{color:var(--soft)}.v4{color:var(--good)}
details{margin:10px 0;border:1px solid var(--edge);border-radius:6px;padding:6px 12px}summary{cursor:pointer;font-weight:600}
pre{overflow-x:auto;background:var(--panel);border:1px solid var(--edge);border-radius:6px;padding:10px 12px;font-size:12.5px;line-height:1.45;overflow-wrap:normal}
figure{margin:0 0 10px;min-width:0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));gap:10px 20px}
.maps{display:flex;flex-wrap:wrap;gap:10px 22px;align-items:flex-start}.maps figure{max-width:100%}
.maps figcaption{font-weight:600;color:var(--fg)}
.legend{display:flex;flex-wrap:wrap;gap:2px 12px;font-size:12.5px;color:var(--soft)}.legend span{display:inline-flex;gap:5px;align-items:center}
svg{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif}
svg.heat{display:block}svg.chart{width:100%;min-width:580px;max-width:720px;height:auto;display:block}
svg text{fill:var(--fg)}svg .tick,svg .axis{fill:var(--soft);font-size:11px}
.end{text-anchor:end}.center{text-anchor:middle}.mid{dominant-baseline:central}.cell{text-anchor:middle;dominant-baseline:central;font-size:11px}
.grid{stroke:var(--edge);stroke-width:1}.frame,.lead{stroke:var(--soft);stroke-width:1;fill:none}.lead{opacity:.45}
.line{fill:none;stroke-width:1.8}.line.base{stroke:var(--soft);stroke-width:4;opacity:.55}
.zero{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}.bound{stroke:var(--bad);stroke-width:2}
.range{stroke:var(--accent);stroke-width:2;fill:none}.point{fill:var(--accent)}
.halo{paint-order:stroke;stroke:var(--bg);stroke-width:3px;stroke-linejoin:round}
.area{fill:var(--accent);opacity:.45}.quantile{stroke:var(--fg);stroke-width:1.2}
.back{fill:var(--h0);opacity:.25}.edge{fill:none;stroke:var(--edge);stroke-width:1}
.worst{fill:none;stroke:var(--bad);stroke-width:2}
)css"
         R"css(.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}
.line.c4{stroke:var(--c4)}.line.c5{stroke:var(--c5)}.line.c6{stroke:var(--c6)}.line.c7{stroke:var(--c7)}
.mark.c0{fill:var(--c0)}.mark.c1{fill:var(--c1)}.mark.c2{fill:var(--c2)}.mark.c3{fill:var(--c3)}
.mark.c4{fill:var(--c4)}.mark.c5{fill:var(--c5)}.mark.c6{fill:var(--c6)}.mark.c7{fill:var(--c7)}
.h0{fill:var(--h0)}.h1{fill:var(--h1)}.h2{fill:var(--h2)}.h3{fill:var(--h3)}.h4{fill:var(--h4)}.h5{fill:var(--h5)}.h6{fill:var(--h6)}.h7{fill:var(--h7)}.h8{fill:var(--h8)}
svg .t0{fill:var(--t0)}svg .t1{fill:var(--t1)}svg .t2{fill:var(--t2)}svg .t3{fill:var(--t3)}svg .t4{fill:var(--t4)}svg .t5{fill:var(--t5)}svg .t6{fill:var(--t6)}svg .t7{fill:var(--t7)}svg .t8{fill:var(--t8)}
footer{margin-top:36px;color:var(--soft);font-size:13px;border-top:1px solid var(--edge);padding-top:10px}
@media (max-width:600px){body{padding:10px 12px 32px}h1{font-size:22px}.facts{display:block}.facts dt{margin-top:7px}}
@media print{:root{color-scheme:light}body{max-width:none;padding:0;font-size:11px}nav,.skip{display:none}.scroll{overflow:visible}
figure,tr,.card{break-inside:avoid}h2,h3{break-after:avoid}svg.chart{min-width:0;max-width:none}.charts{grid-template-columns:1fr 1fr}.charts>div{break-inside:avoid}h2+p,h3+p{break-after:avoid;break-inside:avoid}.charts>div .maps{gap:6px 8px}.charts>div svg.heat{width:105px;height:auto}svg.forest{width:150px;height:auto}header p,.small,dt,figcaption{font-size:10px}th,td{padding-right:8px}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
table{font-size:9.5px}th,td{white-space:normal}a{color:inherit;text-decoration:none}}
)css";
}

}  // namespace qfid::eval
