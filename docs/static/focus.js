// Make wide code blocks focusable, so that they can be scrolled by keyboard.
for (const each of document.querySelectorAll("pre, .table-wrapper")) each.tabIndex = 0;
