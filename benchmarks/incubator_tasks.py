"""The tasks of `benchmarks.incubator`: those a teacher is tuned on, and those held out."""

from synth.task import TaskSettings


def _task(name: str, instruction: str, text_type: str, labels: str) -> TaskSettings:
    """Return a task; labels are written `name: phrase; name: phrase`, names as the gold rows have them."""
    named = dict(each.split(": ") for each in labels.split("; "))
    return TaskSettings(name=name, instruction=instruction, text_type=text_type, labels=named)


TUNED_ON = [
    _task(
        "agnews",
        "Read a short news text and say which section of a newspaper it belongs to.",
        "News Text",
        "World: world politics; Sports: sports; Business: business; Sci/Tech: science and technology",
    ),
    _task(
        "emotion",
        "Tell the feeling that a message expresses.",
        "Message",
        "sadness: the writer is sad; joy: the writer is happy; love: the writer loves; "
        "anger: the writer is angry; fear: the writer is afraid; surprise: the writer is surprised",
    ),
    _task(
        "trec6",
        "Say what kind of answer a question asks for.",
        "Question",
        "abbreviation: what letters stand for; description: a description or a reason; entity: a thing; "
        "human: a person or a group; location: a place; number: a number",
    ),
    _task(
        "sms_spam",
        "Find unwanted text messages.",
        "Text Message",
        "ham: an ordinary message; spam: advertising or fraud",
    ),
    _task(
        "dbpedia14",
        "Say what an article of an encyclopedia is about.",
        "Abstract",
        "Company: a company; Educational Institution: a school or university; Artist: an artist; "
        "Athlete: an athlete; Office Holder: a politician; Mean of Transportation: a vehicle; "
        "Building: a building; Natural Place: a mountain, a lake or a river; Village: a village; "
        "Animal: an animal; Plant: a plant; Album: a music album; Film: a film; Written Work: a book",
    ),
    _task(
        "yelp_polarity",
        "Does the guest of a restaurant or shop praise it or complain?",
        "Review",
        "positive: praise; negative: a complaint",
    ),
    _task(
        "humor",
        "Is this question about a product meant as a joke?",
        "Question",
        "humorous: a joke; non_humorous: a serious question",
    ),
    _task(
        "amazon_category",
        "Say in which department of a shop the product of a review is sold.",
        "Review",
        "apparel: clothes; baby: things for babies; books: books; camera_photo: cameras; dvd: films on disc; "
        "electronics: electronics; health_personal_care: health; kitchen_housewares: kitchen; "
        "magazines: magazines; music: records; software: programs; sports_outdoors: sports; "
        "toys_games: toys; video: films on tape",
    ),
]
"""Without mr and subj, which share sentences with sst2, and without other headlines of Indian papers."""

HELD_OUT = [
    _task(
        "sst2",
        "Read a sentence of a movie review and say whether it speaks well or badly of the movie.",
        "Review",
        "negative: the movie is bad; positive: the movie is good",
    ),
    _task(
        "toi_headlines_2001",
        "Read the headline of an Indian newspaper and name its section.",
        "Headline",
        "sports: sports; business: business; city: events in a city; india: national politics; "
        "entertainment: show business; science: science",
    ),
]
