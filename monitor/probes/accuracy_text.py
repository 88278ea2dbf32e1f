"""The text whose perplexity is asked for: written for this, so that no model has learnt it by heart.

Whoever changes a letter of it gives it another ``TEXT_ID``: perplexities of two texts cannot be compared.
"""

from __future__ import annotations

TEXT_ID = "gpumon-en-1"

PARAGRAPHS = (
    "The ferry to Holm leaves at ten past six, and in winter it is dark by then. Marta had carried the two parcels "
    "from the station herself, because the porter had gone home with a cold, and when she reached the pier her hands "
    "were so stiff that she could not open her purse. The man at the barrier waved her through. He said that she "
    "could pay on the other side, where it would be warmer, and that nobody had ever swum back to save the fare.",
    "Below deck there was a stove, a long bench, and a boy who was doing his sums aloud. Seventeen times six is one "
    "hundred and two, he said, and looked at her as if she might know better. She did not. If a pump lifts forty "
    "litres in a minute, and a tank holds two thousand four hundred, the tank is full in an hour; but the tank in the "
    "book leaked, as tanks in such books always do, and so it took an hour and twenty minutes.",
    "Most people think of a lighthouse as a lamp, but for its keeper it was mainly a clock. The lens of the light on "
    "Holm weighed nearly three tonnes and floated in a trough of mercury, so that a child could turn it with one "
    "finger. A weight on a chain drove it, and every four hours somebody had to climb the stairs and wind the weight "
    "up again. When the electric motor came in 1934, the keepers kept their hours all the same. They woke at two in "
    "the morning, listened to the motor, found that nothing was wrong, and could not fall asleep again.",
    "To make the soup of the island, soak 300 grams of split peas overnight. Chop two onions, one leek and three "
    "carrots, and let them sweat in butter without colour. Add the peas, a bay leaf and a litre and a half of water, "
    "bring it to the boil, skim it, and turn the heat down until the surface barely moves. After an hour and a half "
    "the peas should fall apart. Season it only then, since salt keeps them hard. Serve it with mustard and dark "
    "bread; on Sundays there is a piece of smoked pork in it.",
    "Why is the sea salt, and the lake not? Rain dissolves a little of every rock that it runs over, and rivers carry "
    "what was dissolved down to the sea. Water leaves the sea again by evaporation, but the salt stays behind. A lake "
    "that has an outlet passes its salt on as fast as it receives it; a lake without one becomes salt in its turn. "
    "It follows that the sea should grow saltier for ever, yet it hardly does, because salt is also buried in the "
    "mud, taken up by hot rock at the bottom, and locked away wherever a bay dries out.",
    "def mean(values):\n    if not values:\n        raise ValueError('no values')\n    total = 0.0\n    for value in "
    "values:\n        total += value\n    return total / len(values)\n\nThe function above returns the arithmetic "
    "mean of a list of numbers. It raises an error when the list is empty, because a division by zero would say less "
    "about what went wrong. Called with 2, 4 and 9, it returns 5.0.",
    '"You are late," said her aunt, who stood in the door with a lamp in her hand and did not look angry. "The '
    'fog," said Marta. "There was no fog here." "It was all on our side, then. We waited an hour for it to lift, '
    'and when it had lifted we saw that we had been lying twenty metres from the pier." Her aunt laughed until she '
    "had to put the lamp down. Then she took the smaller of the two parcels, weighed it in her hand, and said that "
    "whatever her brother had sent this time, it was certainly not what she had asked for.",
    "The committee met on the first Tuesday of March. Present were the mayor, the harbour master, two of the three "
    "teachers, and Mr Lund for the fishermen. It was agreed, first, that the road to the quarry be closed to lorries "
    "between nine in the evening and six in the morning; second, that the price of a mooring remain at 85 crowns a "
    "month for boats of up to eight metres, and rise to 120 for longer ones; and third, that the question of the "
    "school roof, which had been put off in January and again in February, be put off no further.",
)

TEXT = "\n\n".join(PARAGRAPHS)
