from __future__ import annotations

import ast

from tests.mutants.operators import mutants

SOURCE = '''
LIMIT = 5

class Gate:
    @property
    def open(self):
        """Words."""
        if self.n <= LIMIT and not self.shut:
            return True
        self.log("shut")
        return False
'''


def test_each_breakage_is_one_edit_and_leaves_no_trace() -> None:
    seen = []
    for mutant, tree in mutants(SOURCE):
        ast.fix_missing_locations(tree)
        compile(tree, "broken", "exec")
        assert ast.unparse(tree) != ast.unparse(ast.parse(SOURCE))
        seen.append((mutant.line, mutant.function, mutant.first_line, mutant.words))
    assert [words for *_, words in seen] == [
        "if self.n <= LIMIT and (not self.shut): …  →  if False: …",
        "if self.n <= LIMIT and (not self.shut): …  →  if True: …",
        "self.n <= LIMIT and (not self.shut)  →  self.n <= LIMIT or not self.shut",
        "self.n <= LIMIT  →  self.n < LIMIT",
        "not self.shut  →  not not self.shut",
        "return True  →  return None",
        "True  →  False",
        "self.log('shut')  →  pass",
        "return False  →  return None",
        "False  →  True",
    ]
    assert {(function, first) for _, function, first, _ in seen} == {("Gate.open", 5)}
    assert seen[0][0] == 8
