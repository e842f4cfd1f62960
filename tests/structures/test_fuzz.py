from tests.structures.fuzz import KINDS, Damage, outcome, run, valid_texts


def test_500_damaged_files_are_used_or_named(tmp_path):
    found = run(500, seed=1, folder=tmp_path)
    assert sum(found.values()) == 500
    for kind in KINDS:  # the damage is neither harmless nor always deadly
        assert 0 < found[f"{kind} used"] < 125
        assert found[f"{kind} named"] > 0


def test_the_files_are_good_before(tmp_path):
    for kind, texts in valid_texts(tmp_path).items():
        for text in texts:
            path = tmp_path / f"whole.{kind}"
            path.write_text(text)
            assert outcome(path) == "used"


def test_a_seed_gives_the_same_damage():
    text = "a b c\nd e f\n" * 20
    assert [Damage(3)(text) for _ in range(5)] == [Damage(3)(text) for _ in range(5)]
    assert Damage(3)(text) != Damage(4)(text)
