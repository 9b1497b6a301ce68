// A page that is found at a heading or a term of its own is not listed once more as a whole.
if (typeof Search !== "undefined") {
  const found = Search._performSearch;
  Search._performSearch = (...query) => {
    const results = found(...query); // [docname, title, anchor, ...], the best last
    const placed = new Set(results.filter(([, , anchor]) => anchor).map(([page]) => page));
    return results.filter(([page, , anchor]) => anchor || !placed.has(page));
  };
}
