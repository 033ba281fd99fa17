"""`qcompile report`: one HTML file that shows what an artifact gained and what it cost.

content    artifact and records -> what there is to show, checked
headline   the ratios, each beside its control
start      a cold process, phase by phase
layers     which scheme where
facts      tables of environment, quality, sizes
quantities numbers with units
svg        a matplotlib figure -> SVG in the page's colours
charts     figures to draw
page       all of it -> HTML (template.html, style.css, slider.js)
"""
