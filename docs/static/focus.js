// Code that is wider than the page can be reached, and moved, by keyboard.
for (const each of document.querySelectorAll("pre, .table-wrapper")) each.tabIndex = 0;
