"""MONAI Label, MONAI Deploy and MLflow: as they open the bundle and, where they are installed, they themselves."""

import importlib
import json
import shutil
import sys
import zipfile

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export
from monai.data import MetaTensor
from monai.transforms import LoadImage

from bundle.publishing.package import NAME
from bundle.training import handlers
from tests.conftest import ROOT, SMALL, run
from tests.test_zoo import copy_bundle

TRACKING = ["--config", "configs/task_alzheimer.yaml", "configs/phantom.yaml", "configs/tracking_mlflow.yaml"]
TRAINED = [*SMALL, "--weights", "scratch", "--epochs", "2"]


def software(name):
    """A package that is not among the bundle's requirements, or the reason why the test is skipped."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, AttributeError) as error:
        pytest.skip(f"{name} cannot be imported here: {error}")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The bundle under its name in another folder."""
    folder = tmp_path_factory.mktemp("installed") / NAME
    folder.mkdir()
    copy_bundle(folder, "phantom_*")
    return folder


@pytest.fixture(scope="module")
def scan(tiny_phantom):
    return sorted((tiny_phantom / "alzheimer").glob("*.nii.gz"))[0]


@pytest.fixture(scope="module")
def exported(elsewhere):
    """`model.ts` as the README's command writes it."""
    configs = {"meta_file": str(elsewhere / "configs/metadata.json")}
    configs["config_file"] = str(elsewhere / "configs/inference.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        ckpt_export("network_def", filepath="models/model.ts", ckpt_file="models/model.pt", **configs)
    return elsewhere / "models/model.ts"


@pytest.fixture(scope="module")
def answer(elsewhere, scan):
    """Probabilities of a scan by the config's own preprocessing, network and postprocessing."""
    parser = ConfigParser(ConfigParser.load_config_file(elsewhere / "configs/inference.json"))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(elsewhere / "models/model.pt", weights_only=True))
    image = parser.get_parsed_content("preprocessing")({"image": str(scan)})["image"]
    with torch.no_grad():
        logits = network(image[None])[0]
    return parser.get_parsed_content("postprocessing")({"pred": logits, "image": image})["pred"].numpy()


def in_memory(scan):
    """A scan as Deploy hands it over: an array without channel, and metadata."""
    image = LoadImage(image_only=True)(str(scan))
    meta = {"affine": image.affine, "original_affine": image.affine, "original_channel_dim": "no_channel"}
    return MetaTensor.ensure_torch_and_prune_meta(image.as_tensor(), meta)


def test_the_archive_is_what_deploys_operator_reads(exported, scan, answer):
    with zipfile.ZipFile(exported) as archive:
        config, metadata = (json.loads(archive.read(f"model/extra/{n}.json")) for n in ("inference", "metadata"))
    (image,), (pred,) = (metadata["network_data_format"][side] for side in ("inputs", "outputs"))
    assert (image, pred) == ("image", "pred")
    about = metadata["network_data_format"]["outputs"][pred]
    assert about["type"] == "probabilities"
    assert list(about["channel_def"]) == ["0", "1"]
    parser = ConfigParser(config)
    parser.parse()
    before, after = (parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing"))
    before.transforms = tuple(t for t in before.transforms if not type(t).__name__.startswith("LoadImage"))
    inputs = before({image: in_memory(scan)})
    assert inputs[image].meta, "Deploy passes the metadata of the preprocessed image on"
    network = torch.jit.load(exported, map_location=parser.get_parsed_content("device")).eval()
    with torch.no_grad():
        logits = parser.get_parsed_content("inferer")(inputs=inputs[image][None], network=network)[0]
    assert after({pred: logits, **inputs})[pred].numpy() == pytest.approx(answer, abs=1e-4)


def test_deploys_operator_answers_in_an_application(exported, scan, answer, tmp_path, monkeypatch):
    core = software("monai.deploy.core")
    monkeypatch.chdir(tmp_path)  # a folder named models, where it starts, would be taken for the application's own
    operators = software("monai.deploy.operators.monai_bundle_inference_operator")
    received = []

    class Source(core.Operator):
        def setup(self, spec):
            spec.output("image")

        def compute(self, op_input, op_output, context):
            found = nib.load(scan)
            names = ("row_pixel_spacing", "col_pixel_spacing", "depth_pixel_spacing")
            meta = dict(zip(names, map(float, found.header.get_zooms()), strict=True))
            array = np.swapaxes(np.asarray(found.dataobj, np.float32), 0, 2)
            op_output.emit(core.Image(array, {**meta, "nifti_affine_transform": found.affine}), "image")

    class Sink(core.Operator):
        def setup(self, spec):
            spec.input("pred")

        def compute(self, op_input, op_output, context):
            received.append(op_input.receive("pred"))

    class Application(core.Application):
        def compose(self):
            once = software("holoscan.conditions").CountCondition(self, 1)
            bundle = operators.MonaiBundleInferenceOperator(
                self,
                name="bundle",
                app_context=core.AppContext({}),
                bundle_path=exported,
                input_mapping=[operators.IOMapping("image", core.Image, core.IOType.IN_MEMORY)],
                output_mapping=[operators.IOMapping("pred", dict, core.IOType.IN_MEMORY)],
            )
            self.add_flow(Source(self, once, name="source"), bundle, {("image", "image")})
            self.add_flow(bundle, Sink(self, name="sink"), {("pred", "pred")})

    Application().run()
    assert received[0]["probabilities"] == pytest.approx(answer, abs=1e-4)


def test_labels_task_finds_its_keys(elsewhere):
    parser = ConfigParser(ConfigParser.load_config_file(elsewhere / "configs/inference.json"))
    assert all(parser.get(key) is not None for key in ("bundle_root", "device", "network_def", "inferer"))
    last = parser.get_parsed_content("postprocessing").transforms[-1]
    assert last({"pred": 0, "image": 1, "image_meta_dict": 2}) == {"pred": 0}
    config = ConfigParser(ConfigParser.load_config_file(elsewhere / "configs/train.json"))
    replaced = ("device", "train#trainer#max_epochs", "train#dataset#data", "validate#dataset#data", "train#handlers")
    assert all(config.get(key) is not None for key in (*replaced, "network"))
    assert "classification" in NAME, "Label tells the type by the folder's name"


def test_labels_task_answers(elsewhere, scan, answer):
    task = software("monailabel.tasks.infer.bundle").BundleInferTask(str(elsewhere), {"preload": "false"})
    assert task.is_valid()
    assert task.info()["labels"] == {"control": 0, "alzheimer's disease": 1}
    _, result = task({"model": NAME, "image": str(scan), "device": "cpu"})
    assert [item["score"] for item in result["prediction"]] == pytest.approx(answer, abs=1e-4)


def records(phantom):
    found = json.loads((phantom / "alzheimer.json").read_text())["training"]
    return [{**record, "image": str(phantom / record["image"])} for record in found[:16]]


def test_labels_trainer_trains_on_records_and_refuses_bare_images(elsewhere, tiny_phantom, monkeypatch):
    trainer = software("monailabel.tasks.train.bundle").BundleTrainTask

    class Datastore:
        def datalist(self):
            return records(tiny_phantom)

    class Trainer(trainer):
        def _fetch_datalist(self, request, datastore):
            return datastore.datalist()

    monkeypatch.chdir(elsewhere)
    shutil.copytree(elsewhere / "models", elsewhere / "eval/pretrain")  # where the bundle's own pretraining leaves them
    request = {"model": NAME, "model_filename": "pretrained.pt", "max_epochs": 1, "device": "cpu", "val_split": 0.5}
    with pytest.raises(RuntimeError) as refusal:
        trainer(str(elsewhere), {})(request, Datastore())
    assert "has no participant_id" in str(refusal.value.__cause__)
    assert Trainer(str(elsewhere), {})(request, Datastore()) == {}
    card = json.loads((elsewhere / "eval/schizophrenia/model.json").read_text())
    assert card["subjects"] == {"training": 8, "validation": 8}


def test_training_takes_records_that_replace_the_datasets(elsewhere, tiny_phantom, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = records(tiny_phantom)
    parser = ConfigParser(ConfigParser.load_config_file("configs/train.json"))
    parser.update({"train#dataset#data": found[:6], "validate#dataset#data": found[6:], "datalist": "absent.json"})
    card = parser.get_parsed_content("validate#card#fingerprints")
    assert len(card["participants"]) > 11
    for number in range(3, 8):  # of the checks; nothing reads the datalist
        parser.get_parsed_content(f"checks#{number}")


def test_a_runs_metrics_and_options_are_in_mlflows_store(tiny_phantom, tmp_path):
    mlflow = software("mlflow")
    assert run("train", tiny_phantom, tmp_path, *TRACKING, *TRAINED) == 0
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns.db")
    experiment = client.get_experiment_by_name(NAME)
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert {"epochs": "2", "seed": "0", "class_weight": "balanced"}.items() <= found.data.params.items()
    assert {"val_auc", "train_auc", "last_batch_loss", "lr_group_0"} <= set(found.data.metrics)
    assert [m.step for m in client.get_metric_history(found.info.run_id, "val_auc")] == [1, 2]


def test_without_mlflow_tracking_is_refused_in_a_sentence(tiny_phantom, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(handlers, "find_spec", lambda name: None)
    assert run("train", tiny_phantom, tmp_path, *TRACKING, *TRAINED) == 1
    message = capsys.readouterr().err
    assert "Tracking needs MLflow, which is not installed: `pip install mlflow`" in message
    assert "Traceback" not in message


def test_the_store_lies_in_a_folder_that_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(handlers, "find_spec", lambda name: sys)
    assert handlers.mlflow_store(tmp_path / "new").endswith("/new/mlruns.db")
    assert (tmp_path / "new").is_dir()
