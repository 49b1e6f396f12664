import json
import shutil

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold

from bundle.prediction.training_record import TrainingEmbeddings, TrainingRecord, load_record, record_path, write_record


@pytest.fixture(scope="module")
def cohort():
    random = np.random.default_rng(0)
    ages = random.uniform(20, 80, 200)
    embedding = random.normal(0, 1, (200, 8))
    embedding[:, 0] += ages / 5
    return TrainingEmbeddings(embedding, ages, np.arange(200) % 2)


def brain_of(age, count=200, seed=1):
    embedding = np.random.default_rng(seed).normal(0, 1, (count, 8))
    embedding[:, 0] += age / 5
    return embedding


def naive_distances(known, new):
    """Mahalanobis, with the covariance shrunk as scikit-learn shrinks it, by the equation."""
    centred, dims = known - known.mean(0), known.shape[1]
    sample, shrinkage = centred.T @ centred / len(known), LedoitWolf().fit(known).shrinkage_
    covariance = (1 - shrinkage) * sample + shrinkage * np.trace(sample) / dims * np.eye(dims)
    away = new - known.mean(0)
    return np.array([np.sqrt(row @ np.linalg.inv(covariance) @ row) for row in away])


def test_distance_and_percentile_are_those_of_the_equations():
    random = np.random.default_rng(0)
    who = np.repeat(np.arange(15), [1, 3, 2] * 5)
    embedding, new = random.normal(size=(len(who), 4)), 1.5 * random.normal(size=(6, 4))
    record = TrainingEmbeddings(embedding, np.full(len(who), np.nan), np.zeros(len(who)), who)
    known, features = record.scaler.transform(embedding), record.scaler.transform(new)
    distances, closer = [], np.zeros(6)
    for _, held_out in KFold(5, shuffle=True, random_state=0).split(np.arange(15)):
        others = known[~np.isin(who, held_out)]
        distances.append(naive_distances(others, features))
        for person in held_out:
            own = naive_distances(others, known[who == person])
            closer += [np.mean(own <= distance) / 15 for distance in distances[-1]]
    found = record.compare(new, [np.nan] * 6)
    assert found["distance"].to_numpy() == pytest.approx(np.mean(distances, 0))
    assert found["distance_percentile"].to_numpy() == pytest.approx(100 * closer)
    assert closer.min() < 0.9


def test_percentiles_of_new_subjects_of_the_same_kind_are_uniform(cohort):
    ages = np.random.default_rng(2).uniform(20, 80, 2000)
    percentile = cohort.compare(brain_of(ages, 2000), ages)["distance_percentile"]
    assert percentile.mean() == pytest.approx(50, abs=5)
    assert (percentile > 95).mean() == pytest.approx(0.05, abs=0.04)


def test_a_strange_subject_is_further_than_all(cohort):
    assert cohort.compare(brain_of(50, 1) + 20, [50.0])["distance_percentile"][0] == 100


@pytest.mark.parametrize("age", [30.0, 50.0, 70.0])
def test_the_age_is_found_and_its_gap_is_zero_on_average(cohort, age):
    found = cohort.compare(brain_of(age), [age] * 200)
    assert found["brain_age"].mean() == pytest.approx(age, abs=3)
    assert found["brain_age_gap"].mean() == pytest.approx(0, abs=1.5)
    nearest = np.array([row.split() for row in found["nearest_training_ages"]], dtype=float)
    assert nearest.shape == (200, 5)
    assert nearest.mean() == pytest.approx(age, abs=4)


def test_a_brain_ten_years_older_has_a_gap_of_ten(cohort):
    found = cohort.compare(brain_of(60.0), [50.0] * 200)
    assert found["brain_age_gap"].mean() == pytest.approx(10, abs=2)


def test_an_unknown_age_has_no_gap(cohort):
    found = cohort.compare(brain_of(50, 2), [np.nan, 50])
    assert np.isnan(found["brain_age_gap"]).tolist() == [True, False]


def test_too_few_healthy_subjects_give_no_age():
    few = TrainingEmbeddings(brain_of(50, 30), np.full(30, 50.0), np.arange(30) % 2)
    found = few.compare(brain_of(50, 2), [50, 50])
    assert found["brain_age"].isna().all()
    assert found["distance"].notna().all()


def test_no_record_and_a_wrong_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no"):
        load_record(tmp_path / "model.pt")
    np.savez(record_path(tmp_path / "model.pt"), embedding=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="no record of a training"):
        load_record(tmp_path / "model.pt")


def several_scans(seed, people=60, scans=4):
    """Scans of people, and their ages, which the embedding does not know; a person's scans are alike."""
    random = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), scans)
    embedding = random.normal(size=(people, 30))[who] + 0.1 * random.normal(size=(people * scans, 30))
    return embedding, random.uniform(20, 80, people)[who], who


@pytest.mark.parametrize("scans", [1, 4])
def test_people_count_once_however_often_they_were_scanned(scans):
    far = []
    for seed in range(4):
        embedding, ages, who = several_scans(seed, scans=scans)
        record = TrainingEmbeddings(embedding, ages, np.zeros(len(who)), who)
        spread = np.abs(ages - ages.mean()).mean()
        assert spread - 2 < record.age_error < spread + 5, "nothing is known of age"
        new, new_ages, _ = several_scans(100 + seed, people=600, scans=1)
        far.append((record.compare(new, new_ages)["distance_percentile"] > 99).mean())
    assert 0.003 < np.mean(far) < 0.03


@pytest.mark.parametrize(
    ("people", "scans", "dims", "directions"),
    [(200, 1, 300, 20), (100, 4, 256, 0)],  # one fit for everybody calls 5.6 % and 0.4 % of new people too far
)
def test_the_percentile_holds_for_long_embeddings_of_few_people(people, scans, dims, directions):
    """Some directions hold most of the variance, as of networks, or none does."""
    far = []
    for seed in range(3):
        random = np.random.default_rng(seed)
        axes = 2 * random.normal(size=(directions, dims)) / np.sqrt(max(directions, 1))

        def scans_of(count, each, random=random, axes=axes):
            who = np.repeat(np.arange(count), each)
            own = random.normal(size=(count, directions)) @ axes
            own += (0.3 if directions else 1) * random.normal(size=(count, dims))
            return own[who] + 0.3 * random.normal(size=(len(who), dims)), who

        embedding, who = scans_of(people, scans)
        record = TrainingEmbeddings(embedding, np.full(len(who), np.nan), np.zeros(len(who)), who)
        new, _ = scans_of(600, 1)
        far.append((record.compare(new, [np.nan] * 600)["distance_percentile"] > 99).mean())
    assert 0.006 < np.mean(far) < 0.03


def test_the_age_error_is_that_of_one_scan():
    """Scans of a person differ; the mean of four is closer to the age than the one scan that somebody new has."""
    random = np.random.default_rng(0)

    def scans_of(people, each):
        ages, who = random.uniform(20, 80, people), np.repeat(np.arange(people), each)
        return ages[who, None] / 5 + 3 * random.normal(size=(len(who), 1)) * np.ones(2), ages[who], who

    embedding, ages, who = scans_of(300, 4)
    record = TrainingEmbeddings(embedding, ages, np.zeros(len(who)), who)
    new, new_ages, _ = scans_of(3000, 1)
    found = record.compare(new, new_ages)
    assert record.age_error == pytest.approx(np.abs(found["brain_age"] - new_ages).mean(), rel=0.1)


def test_scans_taken_for_people_would_say_too_much():
    embedding, ages, who = several_scans(0)
    record = TrainingEmbeddings(embedding, ages, np.zeros(len(who)))
    assert record.age_error < 11.5
    new, new_ages, _ = several_scans(1, people=600, scans=1)
    assert (record.compare(new, new_ages)["distance_percentile"] > 99).mean() > 0.2


def test_a_gap_is_given_within_the_ages_of_the_training_alone(cohort):
    found = cohort.compare(brain_of(50, 4), [10.0, 30.0, 79.0, 95.0])
    assert np.isfinite(found["brain_age_gap"]).tolist() == [False, True, True, False]
    assert found["brain_age"].notna().all()
    assert np.isnan(cohort.compare(brain_of(200, 4), [50.0] * 4)["brain_age_gap"]).all()


def test_a_calibration_counts_people():
    labels, probabilities = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.3, 0.2, 0.9, 0.5, 0.6])
    embeddings = TrainingEmbeddings(np.eye(4), np.full(4, np.nan), np.zeros(4))
    record = TrainingRecord(embeddings, labels, probabilities, np.zeros((1, 2, 2, 2)), np.array([7, 7, 3, 1, 1, 0]))
    truth, means = record.validated
    assert truth.tolist() == [0, 0, 1, 1]
    assert means.tolist() == pytest.approx([0.2, 0.2, 0.7, 0.6])


def test_the_average_healthy_volume_and_the_centres_count_people(trained, tmp_path):
    """One control was scanned three times, with a volume unlike the others'."""
    weights = shutil.copy(trained / "model.pt", tmp_path)
    card = json.loads((trained / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(card))
    people, labels, values = ["sub-1", "1", "2", "1", "3"], [0, 0, 0, 0, 1], [4.0, 4.0, 1.0, 4.0, 9.0]
    shape = load_record(trained / "model.pt").healthy.shape
    scans = [
        {"image": torch.full(shape, value), "label": label, "age": 50.0, "participant_id": name}
        for value, label, name in zip(values, labels, people, strict=True)
    ]
    network = DenseNet(3, 1, 2, **card["network"])
    write_record(network, weights, scans, scans, batch_size=2)
    found = load_record(weights)
    assert found.healthy == pytest.approx(2.5)
    known = found.embeddings
    assert known.centre(0) == pytest.approx((known.embedding[0] + known.embedding[2]) / 2, rel=1e-5)
    assert known.centre() == pytest.approx(known.embedding[[0, 2, 4]].mean(0), rel=1e-5)
