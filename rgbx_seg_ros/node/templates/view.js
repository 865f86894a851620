// Asks for the newest state, shows it, and asks again; nothing while nobody sees the page.
// What nodes tell may hold anything: it becomes text, never markup.
'use strict';

const PERIOD_MS = 100;  // no more than ten pictures a second
const AGAIN_MS = 1000;
const OLD_S = 3;        // a node tells about itself once a second
const LATE_MS = 5000;   // an answer that has not come by then is given up
const KINDS = ['overlay', 'confidence', 'rgb', 'x'];

const $ = id => document.getElementById(id);
const shown = {};       // what an element shows, by its name, as JSON
const counts = {};      // which picture is shown, by its name
let node = new URLSearchParams(location.search).get('node') || '';
let seen = -1;

const wait = ms => new Promise(done => setTimeout(done, ms));
const visible = () => new Promise(done => {
  if (!document.hidden) { done(); return; }
  document.addEventListener('visibilitychange', () => done(), {once: true});
});

function text(element, value) {  // the same once more would be read aloud once more
  if (element.textContent !== value) element.textContent = value;
}

function make(tag, value, className) {
  const element = document.createElement(tag);
  element.textContent = value;
  if (className) element.className = className;
  return element;
}

function list(name, values, element) {  // made anew only where something has changed
  const json = JSON.stringify(values);
  if (shown[name] === json) return;
  shown[name] = json;
  $(name).replaceChildren(...values.map(element));
}

function row(cells) {
  const tr = document.createElement('tr');
  const head = make('th', cells[0]);
  head.scope = 'row';
  tr.append(head, ...cells.slice(1).map(cell => make('td', cell)));
  return tr;
}

function since(seconds) {
  const time = new Date(Date.now() - 1000 * seconds).toLocaleTimeString();
  return `since ${time}, for ${Math.round(seconds)} s`;
}

function link(one) {
  const a = make('a', one.name);
  a.append(' ', make('b', one.mode, one.level));
  a.href = `?${new URLSearchParams({node: one.name})}`;
  if (one.name === node) a.setAttribute('aria-current', 'page');
  return a;
}

function legend(one) {
  const item = make('li', one.name), swatch = make('span', '', 'swatch');
  swatch.style.backgroundColor = `rgb(${one.color.join(', ')})`;
  item.prepend(swatch);
  return item;
}

function figure(one) {
  const div = document.createElement('div');
  div.append(make('b', one[0]), one[1]);
  return div;
}

function input(one) {
  const tr = row(one.cells);
  tr.children[1].className = one.level;
  return tr;
}

function drop(one) {
  const tr = row(one.slice(0, 3));
  tr.title = one[3];
  return tr;
}

function picture(kind, facts) {
  const box = $(kind);
  const isOld = facts.silent_s !== null && facts.silent_s > OLD_S;
  box.classList.toggle('old', isOld);
  text(box.querySelector('.trouble'), facts.trouble);
  text(box.querySelector('figcaption span'), isOld ? `nothing new ${since(facts.silent_s)}` : '');
  if (!facts.count || facts.count === counts[kind]) return null;
  counts[kind] = facts.count;
  const img = box.querySelector('img');
  const there = new Promise(done => { img.onload = img.onerror = done; });
  // The last one stays until this one is there.
  img.src = `${kind}.jpg?${new URLSearchParams({node, n: facts.count})}`;
  return Promise.race([there, wait(LATE_MS)]);
}

function headline(word, level, message, problems) {
  text($('mode'), word);  // the only part that is read aloud when it changes
  $('mode').className = level;
  text($('message'), message);
  list('problems', problems, one => make('li', one.message, one.level));
  document.title = `${word}: ${node || 'rgbx-seg view'}`;
}

function show(state) {
  const isHeard = state.name !== undefined;
  if (isHeard) node = state.name;
  list('nodes', state.nodes.length > 1 || !isHeard ? state.nodes : [], link);
  $('shown').hidden = !isHeard;
  if (!isHeard) {
    text($('name'), node || 'rgbx-seg view');
    headline('no node', '', '', []);
    text($('silence'), state.silence);
    seen = -1;
    return [];
  }
  seen = state.number;
  const isOld = state.silent_s > OLD_S;
  text($('name'), node);
  if (isOld) headline('silent', 'ERROR', '', []);
  else headline(state.mode, state.level, state.message, state.problems);
  text($('silence'), isOld ? `No report ${since(state.silent_s)}: what is below is old. Has the ` +
    'node ended, or been deactivated? The page goes on by itself when it is back.' : '');
  $('shown').classList.toggle('old', isOld);
  list('figures', state.figures, figure);
  list('inputs', state.inputs, input);
  list('times', state.times, row);
  list('drops', state.drops.length ? state.drops : [['nothing', '', '', '']], drop);
  text($('sync'), state.sync);
  text($('about'), state.about);
  if (!state.pictures) return [];
  list('legend', state.legend, legend);
  text($('legend-trouble'), state.legend_trouble);
  return KINDS.map(kind => picture(kind, state.pictures[kind]));
}

async function ask() {
  const answer = await fetch(`state?${new URLSearchParams({node, seen})}`,
    {signal: AbortSignal.timeout(LATE_MS)});
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function unreachable(seconds) {
  seen = -1;
  for (const kind of KINDS) {
    delete counts[kind];
    $(kind).classList.add('old');
  }
  headline('no answer', 'ERROR', '', []);
  $('shown').classList.add('old');
  text($('silence'), `rgbx-seg view does not answer ${since(seconds)}: has it ended? The page ` +
    'goes on by itself when it is back.');
}

async function run() {
  let answeredMs = Date.now();
  for (;;) {
    await visible();
    let state;
    const pause = wait(PERIOD_MS);
    try {
      state = await ask();
    } catch {
      if (!document.hidden) {
        unreachable((Date.now() - answeredMs) / 1000);
        await wait(AGAIN_MS);
      }
      continue;
    }
    answeredMs = Date.now();
    await Promise.all([pause, ...show(state)]);
  }
}

run().catch(error => {  // a page that stands still must not look as if it were live
  headline('page failed', 'ERROR', '', []);
  text($('silence'), `${error}: load the page again, and tell its makers.`);
});
