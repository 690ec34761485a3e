// What the checks of pages share. It runs before the page, so that it hears of errors in the page's own script.
// window.wanted has what the page must show, window.scripts the number of its scripts.
const wrong = [];
let violations = 0;
addEventListener("error", (e) => wrong.push("error: " + e.message));
addEventListener("securitypolicyviolation", () => { violations += 1; });

// Looks at the laid-out page and writes what is wrong into an element `checks`, as a JSON list. `look` is what is
// particular to this kind of page.
async function checked(look) {
  const check = (holds, ...words) => holds || wrong.push(words.join(" "));
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  check(document.documentElement.scrollWidth <= innerWidth, "the page is wider than the window:", document.documentElement.scrollWidth);
  check(document.images.length === 0 && document.scripts.length === scripts, "elements from the data");
  try {
    await look(check, all);
  } catch (e) {
    wrong.push("error: " + e.message);
  }
  check(performance.getEntriesByType("resource").length === 0, "something was requested");
  // the policy stops what data might smuggle in
  const script = document.createElement("script");
  script.textContent = "window.smuggled = true";
  document.body.append(script);
  check(window.smuggled === undefined, "a script without the number ran");
  await new Promise((done) => setTimeout(done, 50));
  check(violations === 1, "violations of the policy:", violations);
  script.remove();
  const out = document.createElement("pre");
  out.id = "checks";
  out.textContent = JSON.stringify(wrong.slice(0, 20));
  document.body.append(out);
}
