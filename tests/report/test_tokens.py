"""Text on a page: every word that a model or a user wrote is escaped, and weights become colours."""

from crate_transformers.report.tokens import Firing, ShownNeuron, firing_html


def test_neurons_with_their_strongest_tokens():
    examples = (Firing(4.0, ("a", "<b>", "c\n"), 1), Firing(2.0, ("<b>",), 0))
    page = firing_html([ShownNeuron(7, 0.25, 0.5, 3.0, examples)], 53)
    assert "Neuron 7" in page
    assert "25.00 % of 53 tokens; selectivity 0.500; mean when firing 3" in page
    assert page.count("0.75)") == 1  # the largest value has the strongest ground, half of it half of that
    assert page.count("0.38)") == 1
    assert page.count("0.00)") == 2
    assert "<b>" not in page
    assert "c⏎" in page
    assert firing_html([], 53) == "<p>No neuron fires.</p>"
    assert "0.00 %" in firing_html([ShownNeuron(7, 0.0, 0.0, 0.0, ())], 53)
