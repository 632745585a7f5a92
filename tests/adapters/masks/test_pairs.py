"""Every common layout and way to name masks gives the pairs that were drawn, and two readings are refused by name."""

from __future__ import annotations

import re
import unicodedata

import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.pairs import Pair, find_pairs, wrapping_folder

IN_FOLDERS = {
    "equal names": ("0.png", "0.png"),
    "another suffix": ("0.jpg", "0.png"),
    "upper case suffix": ("0.PNG", "0.png"),
    "upper case name": ("IMG_0.JPG", "img_0.png"),
    "_mask": ("0.png", "0_mask.png"),
    "_Segmentation": ("ISIC_0000000.jpg", "ISIC_0000000_Segmentation.png"),
    "-seg": ("0.png", "0-seg.png"),
    ".gt": ("0.png", "0.gt.png"),
    "_ground_truth": ("a b.tif", "a b_ground_truth.tif"),
    "mask_ before": ("0.png", "mask_0.png"),
    "mask before": ("image12.png", "mask12.png"),
    "image_ and label_": ("image_007.png", "label_007.png"),
    "_image and _mask": ("007_image.png", "007_mask.png"),
    "two suffixes": ("0.jpg", "0.jpg.png"),
    "number in the name": ("benign (1).png", "benign (1)_mask.png"),
    "_cp_masks of Cellpose": ("well 1.tif", "well 1_cp_masks.tif"),
    "nested": ("aachen/0.png", "aachen/0.png"),
    "nested with a mark": ("aachen/0.png", "aachen/0_labels.png"),
    "normal forms": (unicodedata.normalize("NFD", "zelle_ä.png"), unicodedata.normalize("NFC", "zelle_ä.png")),
    "a mark in the image's name": ("seg_0_mask.png", "seg_0_mask.png"),
}


@pytest.mark.parametrize(("image", "mask"), IN_FOLDERS.values(), ids=IN_FOLDERS)
@pytest.mark.parametrize("folders", ["images masks", "Images Masks", "imgs gt", "img labels", "set/images set/masks"])
def test_names_in_two_folders_match(image: str, mask: str, folders: str) -> None:
    left, right = folders.split()

    found = find_pairs("d", [f"{left}/{image}", f"{right}/{mask}"])

    assert found.pairs == (Pair(f"{left}/{image}", (f"{right}/{mask}",)),)
    assert (found.without_mask, found.without_image, found.ignored) == ((), (), ())


def test_every_image_keeps_its_own_mask_among_names_that_resemble_each_other() -> None:
    names = ["1.png", "11.png", "1_1.png", "mask_1.png", "1_mask.png", "1_mask1.png", "seg.png", "A.png", "a.png"]
    files = [f"{folder}/{name}" for folder in ("images", "masks") for name in names]

    found = find_pairs("d", files)

    assert {pair.image[7:]: [mask[6:] for mask in pair.masks] for pair in found.pairs} == {n: [n] for n in names}


OBJECTS = {
    "numbered": ["masks/0_mask1.png", "masks/0_mask2.png", "masks/0_mask10.png"],
    "numbered after a sign": ["masks/0_mask.png", "masks/0_mask_1.png"],
    "folder": ["masks/0/a.png", "masks/0/b.png"],
    "folder with a mark": ["masks/0_masks/a.png", "masks/0_masks/b.png"],
    "folder with the suffix": ["masks/0.png/1.png", "masks/0.png/2.png"],
}


@pytest.mark.parametrize("masks", OBJECTS.values(), ids=OBJECTS)
def test_files_of_one_object_each_are_joined(masks: list[str]) -> None:
    found = find_pairs("d", ["images/0.png", "images/1.png", "masks/1.png", *masks])

    assert [set(pair.masks) for pair in found.pairs] == [set(masks), {"masks/1.png"}]
    assert found.without_image == ()


def test_one_folder_for_each_image_is_read_as_in_the_data_science_bowl() -> None:
    files = [f"stage1_train/{key}/{name}.png" for key in "ab" for name in (f"images/{key}", "masks/x1", "masks/x2")]

    found = find_pairs("d", [*files, "stage1_train/c/images/c.png"])

    assert [(pair.image, len(pair.masks)) for pair in found.pairs] == [
        ("stage1_train/a/images/a.png", 2),
        ("stage1_train/b/images/b.png", 2),
    ]
    assert found.without_mask == ("stage1_train/c/images/c.png",)


def test_masks_next_to_their_images_are_told_by_their_mark() -> None:
    files = [
        "benign/b (1).png",
        "benign/b (1)_mask.png",
        "benign/b (1)_mask_1.png",
        "normal/n.jpg",
        "normal/n_mask.png",
    ]

    found = find_pairs("d", [*files, "normal/alone.jpg"])

    assert [(pair.image, len(pair.masks)) for pair in found.pairs] == [("benign/b (1).png", 2), ("normal/n.jpg", 1)]
    assert found.without_mask == ("normal/alone.jpg",)


def test_masks_in_the_folder_of_the_images_are_told_by_their_mark() -> None:
    found = find_pairs("d", ["images/0.png", "images/0_mask.png", "index.csv"])

    assert found.pairs == (Pair("images/0.png", ("images/0_mask.png",)),)


JUNK = ["._0.png", "Thumbs.db", ".DS_Store", "desktop.ini", "@eaDir/0.png", ".hidden/0.png"]


def test_junk_of_operating_systems_is_passed_over_without_a_word() -> None:
    files = [f"{folder}/{name}" for folder in ("images", "masks") for name in ("0.png", *JUNK)]

    found = find_pairs("d", [*files, "__MACOSX/images/._0.png"])

    assert found.pairs == (Pair("images/0.png", ("masks/0.png",)),)
    assert (found.without_mask, found.without_image, found.ignored) == ((), (), ())


def test_what_is_left_over_is_named() -> None:
    found = find_pairs("d", ["images/0.png", "images/1.png", "masks/0.png", "masks/2.png", "masks/0.json", "index.csv"])

    assert found.without_mask == ("images/1.png",)
    assert found.without_image == ("masks/2.png",)
    assert found.ignored == ("masks/0.json",)


@pytest.mark.parametrize(
    "masks",
    [
        ["masks/0.png", "masks/0.tif"],
        ["masks/0.png", "masks/0_mask.png"],
        ["masks/0_mask.png", "masks/0_seg.png"],
        ["masks/0_mask.png", "masks/0_mask.tif"],
        ["masks/0.png", "masks/0/1.png"],
        ["masks/0_mask.png", "masks/mask_0.png"],
        ["masks/0_mask1.png", "masks/0_mask1.bmp"],
    ],
    ids=" ".join,
)
def test_two_masks_of_one_image_are_refused_naming_both_and_the_advice_joins_them(masks: list[str]) -> None:
    masks = [mask.replace(".bmp", ".jpg") for mask in masks]
    with pytest.raises(DatasetError) as caught:
        find_pairs("d", ["images/0.png", *masks])

    message = str(caught.value)
    assert all(name in message for name in ("images/0.png", *masks))
    advised = re.findall(r"0_mask\d\.png", message.partition("Fix: ")[2])
    joined = find_pairs("d", ["images/0.png", *(f"masks/{name}" for name in advised)])
    assert [len(pair.masks) for pair in joined.pairs] == [2]


def test_one_mask_for_two_images_is_refused_and_names_with_suffix_tell_them_apart() -> None:
    with pytest.raises(DatasetError, match=r"images/0\.jpg and images/0\.png for the one mask masks/0\.tif"):
        find_pairs("d", ["images/0.jpg", "images/0.png", "masks/0.tif"])

    found = find_pairs("d", ["images/0.jpg", "images/0.png", "masks/0.jpg.png", "masks/0.png"])
    assert [pair.masks for pair in found.pairs] == [("masks/0.jpg.png",), ("masks/0.png",)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["cats/0.png", "dogs/0.png"], "found no folder images .*folders cats, dogs.*Fix: put the images into images/"),
        (["images/0.png"], "found no folder masks .*Fix: put the mask of each image"),
        (["images/0.png", "masks/0.npy"], r"masks/0\.npy, which are not images.*Fix: put .* as a PNG"),
        (["images/0.png", "masks/0.png", "gt/0.png"], "folders masks and gt, expected one of them. Fix: rename"),
        (["images/0.png", "img/0.png", "masks/0.png"], "folders images and img, expected one of them. Fix: rename"),
        (
            [f"{day}/{kind}/{n}.png" for day in ("mon", "tue") for kind in ("images", "masks") for n in "01"],
            "found mon, tue, each with images and masks.*Fix: give d/mon",
        ),
        (["a.jpg", "a.json"], r"found no folder images.*Polygons in JSON .*ImageDraw\.Draw\(mask\)\.polygon"),
        (["ds0/img/a.png", "ds0/ann/a.png.json", "meta.json"], r"next to ds0/img,.*Polygons in JSON"),
    ],
    ids=[
        "classes",
        "no masks",
        "NumPy masks",
        "two folders of masks",
        "two folders of images",
        "two sets",
        "LabelMe",
        "Supervisely",
    ],
)
def test_another_layout_is_refused_with_a_fix(files: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        find_pairs("d", files)


DATASETS = {
    "parts above": ("train/images/0.png train/masks/0.png val/images/0.png val/masks/0.png",
                    "train 0.png validation 0.png"),
    "one image in each part": ("train/images/a.png train/masks/a.png test/images/b.png test/masks/b.png",
                               "train a.png test b.png"),
    "parts below": ("images/train/0.png masks/train/0.png images/Valid/1.png masks/Valid/1.png",
                    "train 0.png validation 1.png"),
    "YOLO's order": ("images/train2017/7.jpg stuffthingmaps/train2017/7.png images/val2017/8.jpg "
                     "stuffthingmaps/val2017/8.png annotations/instances_val2017.json", "train 7.png validation 8.png"),
    "COCO-stuff": ("train2017/7.jpg val2017/8.jpg stuffthingmaps_trainval2017/train2017/7.png "
                   "stuffthingmaps_trainval2017/val2017/8.png", "train 7.png validation 8.png"),
    "CamVid": ("train/01_6.png train_labels/01_6_L.png val/01_7.png val_labels/01_7_L.png test/01_8.png "
               "test_labels/01_8_L.png class_dict.csv", "train 01_6_L.png validation 01_7_L.png test 01_8_L.png"),
    "SegNet": ("train/0.png trainannot/0.png test/1.png testannot/1.png", "train 0.png test 1.png"),
    "Carvana": ("train/ab_01.jpg train_masks/ab_01_mask.gif train/ab_02.jpg train_masks/ab_02_mask.gif test/cd_01.jpg "
                "train_masks.csv", "train ab_01_mask.gif train ab_02_mask.gif"),
    "Carvana, folders twice": ("train/train/ab_01.jpg train_masks/train_masks/ab_01_mask.gif", "train ab_01_mask.gif"),
    "ISIC 2018": ("ISIC2018_Task1-2_Training_Input/ISIC_0.jpg "
                  "ISIC2018_Task1_Training_GroundTruth/ISIC_0_segmentation.png "
                  "ISIC2018_Task1-2_Validation_Input/ISIC_1.jpg "
                  "ISIC2018_Task1_Validation_GroundTruth/ISIC_1_segmentation.png",
                  "train ISIC_0_segmentation.png validation ISIC_1_segmentation.png"),
    "ISIC 2017": ("ISIC-2017_Training_Data/ISIC_0.jpg ISIC-2017_Training_Data/ISIC_0_superpixels.png "
                  "ISIC-2017_Training_Part1_GroundTruth/ISIC_0_segmentation.png", "train ISIC_0_segmentation.png"),
    "DRIVE": ("training/images/21_training.tif training/1st_manual/21_manual1.gif training/mask/21_training_mask.gif "
              "test/images/01_test.tif test/1st_manual/01_manual1.gif test/2nd_manual/01_manual2.gif "
              "test/mask/01_test_mask.gif", "train 21_manual1.gif test 01_manual1.gif"),
    "HRF": ("images/01_dr.JPG manual1/01_dr.tif mask/01_dr_mask.tif", "None 01_dr.tif"),
    "CHASE_DB1": ("Image_01L.jpg Image_01L_1stHO.png Image_01L_2ndHO.png", "None Image_01L_1stHO.png"),
    "Cityscapes": ("leftImg8bit/train/ulm/ulm_0_leftImg8bit.png gtFine/train/ulm/ulm_0_gtFine_labelIds.png "
                   "gtFine/train/ulm/ulm_0_gtFine_color.png gtFine/train/ulm/ulm_0_gtFine_instanceIds.png "
                   "gtFine/train/ulm/ulm_0_gtFine_labelTrainIds.png gtFine/train/ulm/ulm_0_gtFine_polygons.json "
                   "leftImg8bit/val/bonn/bonn_0_leftImg8bit.png gtFine/val/bonn/bonn_0_gtFine_labelIds.png",
                   "train ulm_0_gtFine_labelIds.png validation bonn_0_gtFine_labelIds.png"),
    "Pascal VOC": ("JPEGImages/0.jpg SegmentationClass/0.png SegmentationObject/0.png Annotations/0.xml "
                   "ImageSets/Segmentation/train.txt", "None 0.png"),
    "ADE20K": ("images/training/ADE_1.jpg annotations/training/ADE_1.png images/validation/ADE_2.jpg "
               "annotations/validation/ADE_2.png", "train ADE_1.png validation ADE_2.png"),
    "Kvasir-SEG": ("images/ck0.jpg masks/ck0.jpg kavsir_bboxes.json", "None ck0.jpg"),
    "CVC-ClinicDB": ("Original/1.tif Ground_Truth/1.tif", "None 1.tif"),
    "GlaS": ("train_1.bmp train_1_anno.bmp testA_1.bmp testA_1_anno.bmp Grade.csv",
             "None train_1_anno.bmp None testA_1_anno.bmp"),
    "Roboflow": ("train/a.jpg train/a_mask.png train/_classes.csv valid/b.jpg valid/b_mask.png",
                 "train a_mask.png validation b_mask.png"),
    "nnU-Net": ("imagesTr/a_0000.png labelsTr/a.png imagesTr/b_0000.png labelsTr/b.png imagesTs/c_0000.png",
                "train a.png train b.png"),
    "MMSegmentation": ("img_dir/train/0.png ann_dir/train/0.png img_dir/val/1.png ann_dir/val/1.png",
                       "train 0.png validation 1.png"),
    "DeepGlobe": ("train/7_sat.jpg train/7_mask.png train/8_sat.jpg train/8_mask.png valid/9_sat.jpg valid/9_mask.png",
                  "train 7_mask.png train 8_mask.png validation 9_mask.png"),
    "Massachusetts roads": ("tiff/train/7.tiff tiff/train_labels/7.tif tiff/val/8.tiff tiff/val_labels/8.tif",
                            "train 7.tif validation 8.tif"),
    "Oxford pets": ("images/a_1.jpg images/b_1.jpg annotations/trimaps/a_1.png annotations/trimaps/b_1.png "
                    "annotations/xmls/a_1.xml", "None a_1.png None b_1.png"),
    "one folder on both sides": ("images/ulm/0.png masks/ulm/0.png", "None 0.png"),
    "a folder of objects": ("images/0.png masks/0_masks/a.png", "None a.png"),
    "images at the root": ("0.png 1.png masks/0.png masks/1.png", "None 0.png None 1.png"),
    "Data Science Bowl": ("stage1_train/k/images/k.png stage1_train/k/masks/x.png stage1_train/m/images/m.png "
                          "stage1_train/m/masks/y.png stage1_test/t/images/t.png", "train x.png train y.png"),
    "an image called test": ("images/test.png masks/test/1.png images/a.png masks/a.png", "None a.png None 1.png"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), DATASETS.values(), ids=DATASETS)
def test_the_layouts_of_public_datasets_give_their_masks_and_parts(files: str, expected: str) -> None:
    found = find_pairs("d", files.split())
    read = [word for pair in found.pairs for word in (str(pair.part), pair.masks[0].rpartition("/")[2])]
    wanted = expected.split()

    assert sorted(zip(read[::2], read[1::2], strict=True)) == sorted(zip(wanted[::2], wanted[1::2], strict=True))
    assert (found.without_mask, found.without_image) == ((), ())


def test_what_a_dataset_keeps_beside_its_masks_is_named_in_a_note() -> None:
    drive = "images/21_training.tif 1st_manual/21_manual1.gif 2nd_manual/21_manual2.gif mask/21_training_mask.gif"
    carvana = "train/a.jpg train_masks/a_mask.gif test/b.jpg"
    extra = "images/a.png masks/a.png overlays/a.png"

    assert find_pairs("d", drive.split()).notes == (
        "1 file(s) are colours, objects or a second reader's masks and are not used: 2nd_manual/21_manual2.gif",
        "mask is not used, because 1st_manual has the masks",
    )
    assert find_pairs("d", carvana.split()).notes == (
        "1 file(s) of the part test have no masks and are not used: test/b.jpg",
    )
    assert find_pairs("d", extra.split()).notes == (
        "1 file(s) are neither below images nor below masks and are not used: overlays/a.png",
    )


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        (["images/0.png", "masks/0.png"], ""),
        (["set/images/0.png", "set/masks/0.png", "set/index.csv", "__MACOSX/set/._index.csv"], "set/"),
        (["archive/a b/images/0.png", "archive/a b/masks/0.png"], "archive/a b/"),
        (["images/0.png"], ""),
        (["set/0.png", "set/0_mask.png"], "set/"),
        (["set/images/0.png", "README.md"], ""),
        ([], ""),
    ],
    ids=["none", "one", "two", "images alone", "side by side", "a file outside", "nothing"],
)
def test_folders_that_hold_everything_are_found(files: list[str], folder: str) -> None:
    assert wrapping_folder(files) == folder
