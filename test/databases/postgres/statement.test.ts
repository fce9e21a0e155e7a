/** Where a statement ends: as the server sees it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkText, withoutEnd } from '../../../src/databases/postgres/statement.ts';

test('the semicolon at the end goes, with what follows it', () => {
  for (const [sql, expected] of [
    ['select 1', 'select 1'],
    ['select 1;', 'select 1'],
    ['select 1 ; ;\n-- done; really\n/* ; */ ', 'select 1 '],
    ["select ';'", "select ';'"],
    ["select 'it''s;' ;", "select 'it''s;' "],
    ["select e'\\';' ;", "select e'\\';' "],
    ['select 1 as ";";', 'select 1 as ";"'],
    ['select $$;$$;', 'select $$;$$'],
    ['select $a$ $$; $b$ $a$;', 'select $a$ $$; $b$ $a$'],
    ['select 1 -- ;', 'select 1 -- ;'],
    ['select 1 /* /* ; */ ; */;', 'select 1 /* /* ; */ ; */'],
    ['select a$1$;', 'select a$1$'],
    ['select $1;', 'select $1'],
    // A second statement is the server's to refuse.
    ['select 1; select 2', 'select 1; select 2'],
    ['select 1; select 2;', 'select 1; select 2'],
    ['', ''],
    [';', ''],
    // An empty statement in front of it is none.
    [';select 1;', ' select 1'],
    ['; -- a; b\n ;(select 1) ;', '  -- a; b\n  (select 1) '],
  ] as const) {
    assert.equal(withoutEnd(sql), expected, sql);
  }
});

test('whatever the pieces of a statement are, only its end goes', () => {
  const piece = fc.constantFrom(
    'select',
    ' ',
    '\n',
    "'a;b'",
    "'it''s'",
    "e'\\';'",
    '";"',
    '$$;$$',
    '$t$ ; $t$',
    '/* ; */',
    '-- ;\n',
    '$1',
    'a$b',
    '1.5',
    '(',
    ')',
  );
  fc.assert(
    fc.property(fc.array(piece), fc.constantFrom(';', ';;', '; -- x', ';/* y */', ' ; '), (pieces, end) => {
      const statement = `${pieces.join(' ')} x`;
      assert.equal(withoutEnd(statement), statement);
      assert.equal(withoutEnd(statement + end).trimEnd(), statement);
    }),
  );
});

test('a NUL is refused: what is behind it would be lost on the way', () => {
  assert.throws(() => checkText("select 'a\0b'", 'db "app"'), /NUL/);
});
