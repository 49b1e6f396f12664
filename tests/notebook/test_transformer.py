"""Embeddings inside scikit-learn: the estimator's contract, and the numbers of the probe."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from bundle import EmbeddingTransformer
from bundle.cli.main import main
from bundle.cohort.datalist import load_section
from bundle.networks.weights import load_encoder
from tests.conftest import with_full_paths


@pytest.fixture
def images(tiny_phantom):
    return [record["image"] for record in load_section(tiny_phantom / "alzheimer.json", "training")]


@pytest.fixture
def transformer(encoder):
    return EmbeddingTransformer(encoder, device="cpu")


def by_hand(path, encoder):
    """A volume with mean 0 and standard deviation 1, through the encoder, one after the other."""
    import nibabel as nib

    volume = nib.load(path).get_fdata(dtype=np.float32)
    scaled = torch.as_tensor((volume - volume.mean()) / volume.std())[None, None]
    with torch.no_grad():
        return encoder.eval()(scaled)[0].numpy()


def test_embeddings_are_those_of_the_encoder_in_the_order_of_the_paths(transformer, images, encoder):
    found = transformer.fit_transform(images[:5])
    network = load_encoder(encoder).encoder
    np.testing.assert_allclose(found, [by_hand(path, network) for path in images[:5]], atol=1e-4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(transformer.transform(images[4::-1]), found[::-1], atol=1e-6)


@pytest.mark.parametrize("kind", [np.array, pd.Series, lambda paths: pd.DataFrame({"image": paths}), tuple])
def test_paths_come_in_whatever_scikit_learn_hands_on(transformer, images, kind):
    np.testing.assert_array_equal(transformer.fit_transform(kind(images[:2])), transformer.fit_transform(images[:2]))


def test_cells_of_the_feature_map_make_more_features_with_names(encoder, images):
    transformer = EmbeddingTransformer(encoder, pool=2, device="cpu").fit(images[:1])
    found = transformer.transform(images[:2])
    names = transformer.get_feature_names_out()
    assert found.shape == (2, len(names))
    assert len(names) == 8 * load_encoder(encoder).encoder.embedding_size
    assert names[0] == "embeddingtransformer0"
    frame = transformer.set_output(transform="pandas").transform(images[:2])
    assert list(frame.columns) == list(names)


def test_it_is_cloned_set_and_pickled_without_the_weights(transformer, images):
    fitted = clone(transformer).set_params(batch_size=2).fit(images[:2])
    assert fitted.get_params()["batch_size"] == 2
    content = pickle.dumps(fitted)
    assert len(content) < 2_000
    np.testing.assert_array_equal(pickle.loads(content).transform(images[:2]), fitted.transform(images[:2]))


@pytest.mark.long
def test_a_pipeline_over_paths_is_cross_validated(transformer, tiny_phantom):
    records = with_full_paths(tiny_phantom / "alzheimer.json")["training"]
    paths, labels = [record["image"] for record in records], [record["label"] for record in records]
    model = make_pipeline(transformer, StandardScaler(), LogisticRegression())
    whole = cross_val_score(model, paths, labels, cv=3, scoring="roc_auc")
    embedded = transformer.fit_transform(paths)
    once = cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression()), embedded, labels, cv=3, scoring="roc_auc"
    )
    np.testing.assert_allclose(whole, once)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pool": 0}, "`pool` is a whole number from 1 on, but 0 was given"),
        ({"batch_size": 1.5}, "`batch_size` is a whole number"),
        ({"weights": "nowhere.pt"}, "There is no weights file nowhere.pt"),
        ({"X": []}, "Paths of images are expected"),
        ({"X": [[1.0, 2.0]]}, "Paths of images are expected, one of each, but the shape is"),
        ({"X": [3.0]}, "1 of 1 are no paths of images, the first one is 3.0"),
        ({"X": "scan.nii"}, "a single path was given"),
        ({"X": ["nowhere.nii"]}, "1 of 1 images do not exist: 'nowhere.nii'"),
    ],
)
def test_refusals_are_sentences(transformer, images, change, reason):
    X = change.pop("X", images[:1])
    with pytest.raises(ValueError, match=reason):
        transformer.set_params(**change).fit(X)


def test_an_image_that_cannot_be_read_is_named(transformer, images, tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"broken\.nii\.gz"):
        transformer.fit(images[:1]).transform([tmp_path / "broken.nii.gz"])


def test_other_weights_than_those_of_the_fit_are_refused(encoder, images, tmp_path):
    copy = tmp_path / "encoder.pt"
    copy.write_bytes(encoder.read_bytes())
    fitted = EmbeddingTransformer(copy, device="cpu").fit(images[:1])
    state = torch.load(encoder, weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, copy)
    with pytest.raises(ValueError, match="holds other weights than when this was fitted"):
        fitted.transform(images[:1])


FED = "the check feeds tables of numbers, and the input are paths of images"
ASKED = "the check asks for the words that scikit-learn refuses numbers with"
EXPECTED = {  # checks of scikit-learn that make no sense for paths: why
    **dict.fromkeys(
        [
            *("check_fit_score_takes_y", "check_estimators_overwrite_params", "check_dont_overwrite_parameters"),
            *("check_estimators_fit_returns_self", "check_readonly_memmap_input", "check_n_features_in_after_fitting"),
            *("check_positive_only_tag_during_fit", "check_estimators_dtypes", "check_dtype_object"),
            *("check_pipeline_consistency", "check_estimators_pickle", "check_f_contiguous_array_estimator"),
            *("check_transformer_data_not_an_array", "check_transformer_general", "check_fit2d_1sample"),
            *("check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_fit2d_1feature"),
            *("check_dict_unchanged", "check_fit_idempotent", "check_fit_check_is_fitted", "check_n_features_in"),
            *("check_fit2d_predict1d", "check_estimator_sparse_tag"),
        ],
        FED,
    ),
    **dict.fromkeys(
        [
            *("check_complex_data", "check_estimators_empty_data_messages", "check_estimators_nan_inf"),
            *("check_estimator_sparse_array", "check_estimator_sparse_matrix"),
        ],
        ASKED,
    ),
}


class ToldOtherwise(EmbeddingTransformer):
    """The transformer as if it took tables of numbers: scikit-learn then tries all of its checks, and not three."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [EmbeddingTransformer, ToldOtherwise])
def test_scikit_learns_own_checks_hold(encoder, kind):
    """Fit and refit, pickling, order and subsets of the input, which its checks try with numbers, are tried above."""
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 6):
        pytest.skip("needs scikit-learn 1.6: earlier ones know no expected failures by name")
    options = {"expected_failed_checks": EXPECTED, "on_fail": None, "on_skip": None}
    found = check_estimator(kind(encoder, device="cpu"), **options)
    assert [(row["check_name"], row["exception"]) for row in found if row["status"] == "failed"] == []
    assert sum(row["status"] == "passed" for row in found) >= (12 if kind is ToldOtherwise else 1)


def test_a_published_folder_is_named_like_a_file(transformer, images, encoder, tmp_path):
    assert main(["convert-weights", str(encoder), "--output", str(tmp_path)]) == 0
    (tmp_path / f"{encoder.stem}.safetensors").rename(tmp_path / "model.safetensors")
    published = EmbeddingTransformer(tmp_path, device="cpu").fit_transform(images[:3])
    np.testing.assert_array_equal(published, transformer.fit_transform(images[:3]))
