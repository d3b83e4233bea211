"""Classes of the `openmoji` data set, defined by Unicode subcategories and single emoji.

Classes that their names cannot distinguish are merged (pages and pens with office supplies, cutlery with household
items, Asian dishes with meals, the moon and stars with the weather); symbols that do not depict their subcategory are
left out; groups with fewer than 12 pictures (boats, aircraft, reptiles, medals) are not used.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassRule:
    """Rule for one class.

    Attributes:
        subcategories: Unicode subcategories, included whole.
        without: short names of emoji to exclude.
        plus: short names of emoji to add from other subcategories.
    """

    subcategories: tuple[str, ...]
    without: str = ""
    plus: str = ""


RULES: dict[str, ClassRule] = {
    "arrow": ClassRule(("arrow",), without="back end on soon top"),
    "bird": ClassRule(("animal-bird",), without="feather wing"),
    "building": ClassRule(("place-building", "place-religious"), without="bricks rock wood statue_of_liberty kaaba"),
    "clock": ClassRule(("time",)),
    "clothing": ClassRule(
        ("clothing",), without="gem prayer_beads hair_pick folding_hand_fan lipstick ring helmet_with_white_cross"
    ),
    "dessert": ClassRule(("food-sweet",), plus="moon_cake dango"),
    "drink": ClassRule(("drink",), without="ice_cube pouring_liquid"),
    "electronic device": ClassRule(
        ("computer", "phone"),
        without="minidisc floppy_disk cd dvd battery low_battery electric_plug abacus calling",
        plus="movie_camera camera camera_with_flash video_camera tv film_projector radio flashlight video_game "
        "joystick",
    ),
    "fantasy character": ClassRule(("person-fantasy",)),
    "festive decoration": ClassRule(("event",), without="admission_tickets ticket reminder_ribbon rice_scene"),
    "fruit": ClassRule(("food-fruit",), without="tomato olive"),
    "geometric shape": ClassRule(("geometric",)),
    "hand gesture": ClassRule(
        ("hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands")
    ),
    "heart": ClassRule(("heart",), without="love_letter"),
    "household item": ClassRule(("household", "dishware"), without="elevator bubbles amphora"),
    "insect": ClassRule(("animal-bug",), without="spider_web microbe"),
    "land vehicle": ClassRule(
        ("transport-ground",),
        without="station busstop traffic_light vertical_traffic_light construction rotating_light octagonal_sign wheel "
        "oil_drum motorway railway_track fuelpump",
    ),
    "landscape": ClassRule(
        ("place-geographic",),
        plus="foggy night_with_stars sunrise_over_mountains sunrise city_sunset city_sunrise bridge_at_night cityscape "
        "ocean milky_way",
    ),
    "mammal": ClassRule(("animal-mammal",), without="feet pig_nose"),
    "meal": ClassRule(("food-prepared", "food-asian"), without="salt butter egg moon_cake dango"),
    "musical instrument": ClassRule(("musical-instrument",), plus="postal_horn bell"),
    "office supply": ClassRule(
        ("office", "writing", "book-paper"),
        without="label chart_with_upwards_trend chart_with_downwards_trend wastebasket memo",
    ),
    "person playing a sport": ClassRule(("person-sport",)),
    "person with a job": ClassRule(
        ("person-role",),
        without="woman_with_veil man_with_veil bride_with_veil man_with_gua_pi_mao pregnant_woman breast-feeding "
        "woman_in_tuxedo man_in_tuxedo person_in_tuxedo person_with_headscarf pregnant_man pregnant_person "
        "woman-wearing-turban man-wearing-turban man_with_turban man_feeding_baby woman_feeding_baby "
        "person_feeding_baby prince princess person_with_crown",
    ),
    "plant": ClassRule(("plant-flower", "plant-other"), without="rosette empty_nest nest_with_eggs"),
    "sad face": ClassRule(("face-concerned",)),
    "sea animal": ClassRule(("animal-marine", "food-marine"), without="shell"),
    "smiling face": ClassRule(
        ("face-smiling", "face-affection", "face-tongue"),
        without="kissing kissing_heart kissing_smiling_eyes kissing_closed_eyes melting_face money_mouth_face",
    ),
    "sports equipment": ClassRule(("sport",)),
    "tool": ClassRule(
        ("tool",), without="bomb link compression shield probing_cane boomerang scales broken_chain chains"
    ),
    "toy": ClassRule(("game",), without="gun mirror_ball spades clubs hearts diamonds video_game joystick"),
    "vegetable": ClassRule(("food-vegetable",)),
    "weather": ClassRule(
        ("sky & weather",), without="closed_umbrella ocean milky_way thermometer umbrella umbrella_on_ground fire"
    ),
    "zodiac sign": ClassRule(("zodiac",)),
}

# Concepts drawn once per gender whose code points Unicode does not relate: code point -> code point of the concept.
SAME_CONCEPT: dict[str, str] = {
    "1F936": "1F385",  # Mrs Claus -> Santa
    "1F9D1-1F384": "1F385",  # Mx Claus -> Santa
    "1F57A": "1F483",  # man dancing -> woman dancing
}
